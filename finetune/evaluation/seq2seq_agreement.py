"""Train = serve for an encoder–decoder: its engine says, with the adapter merged, what PEFT's layers say over the base.

The training process reads every reply from its beginning again at each token: nothing that the engine keeps is used here.
"""

from functools import partial
from typing import Any

import torch

from dialogue.engine.local.seq2seq_model import Seq2SeqModel
from finetune.evaluation.agreement import Spoken
from finetune.evaluation.answers import Question
from finetune.evaluation.contenders import line_up
from finetune.evaluation.losses import wearing
from finetune.evaluation.seq2seq_scene import build_seq2seq_engine, engine_name, fits_seq2seq, load_float, task_prompts
from finetune.evaluation.subject import ServingForm, Subject, Terms
from finetune.training.run_folder import RunManifest
from finetune.training.seq2seq_train import find_seq2seq


class Seq2SeqSpeaker:
    """Implements `Speaker` for encoder–decoders."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self._rules = Seq2SeqModel(model)  # which tokens end a reply, and which are never said

    def speak(self, question: Question) -> Spoken:
        """Return the likeliest tokens up to the end of the reply or the limit of the question."""
        ids: list[int] = []
        gaps: list[float] = []
        while len(ids) < question.max_tokens:
            best = torch.topk(self._logits(question, ids), 2)
            gaps.append(float(best.values[0] - best.values[1]))
            token = int(best.indices[0])
            if token in self._rules.eos_ids:
                break
            ids.append(token)
        return Spoken(tuple(ids), tuple(gaps))

    def _logits(self, question: Question, said: list[int]) -> torch.Tensor:
        """Return the logits of the token after what was said, (vocabulary,)."""
        source, reply = torch.tensor([question.prompt]), torch.tensor([[*question.decoder_prompt, *said]])
        with torch.inference_mode():
            out = self._model(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=reply, use_cache=False)
            return self._rules.suppress(out.logits[:, -1])[0]


def seq2seq_subject(terms: Terms, run: RunManifest) -> Subject:
    """Return the adapter of an encoder–decoder, which one engine serves. Raises FinetuneError, ModelError and EngineUnavailable."""
    base = find_seq2seq(run.recipe.model, terms.engine.cache_dir, terms.sources)
    model = load_float(base)
    candidate = line_up(terms.run.absolute() / "adapter", None, fits_seq2seq(base, model), base.files.reference)[0]
    build = partial(build_seq2seq_engine, terms.engine, base.files, run.recipe, slots=1)
    return Subject(
        candidate,
        task_prompts(base, run.recipe, terms.tokens),
        base.codec.decode,
        (ServingForm(engine_name(), not torch.cuda.is_available(), build),),
        lambda: Seq2SeqSpeaker(wearing(model, candidate)),
    )
