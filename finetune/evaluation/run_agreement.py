"""From a training run to the agreement of every engine that can serve it."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch

from dialogue.engine.model_files import ModelFiles
from finetune.dataset import read_split
from finetune.errors import FinetuneError
from finetune.evaluation.agreement import Agreement, GreedySpeaker, Spoken, ask_engine, compare
from finetune.evaluation.answers import Answer, Question, make_questions
from finetune.evaluation.contenders import fits_gguf, line_up
from finetune.evaluation.evaluate import OnProgress, StepCounter
from finetune.evaluation.float_engine import build_float_engine, float_form
from finetune.evaluation.losses import load_float, wearing
from finetune.evaluation.run_evaluation import build_prompts, context_tokens
from finetune.evaluation.selection import pick
from finetune.evaluation.seq2seq_agreement import seq2seq_subject
from finetune.evaluation.subject import ServingForm, Subject, Terms
from finetune.training.base_model import find_base
from finetune.training.run_folder import RunManifest, read_run

_TORCH: Final = "torch, float32"


def run_agreement(terms: Terms, tell: OnProgress) -> tuple[Agreement, ...]:
    """Return the agreement of each engine. Raises FinetuneError, ModelError and EngineError."""
    run = read_run(terms.run)
    subject = (seq2seq_subject if run.recipe.train.architecture == "seq2seq" else decoder_subject)(terms, run)
    questions = _questions(terms, run, subject)
    spoken = _speak(subject, questions, tell)
    found: list[Agreement] = []
    for form in subject.forms:
        answers = asyncio.run(_answers(form, subject, questions, tell))
        found.append(compare(form.name, spoken, answers, subject.decode, exact=form.exact))
    return tuple(found)


def decoder_subject(terms: Terms, run: RunManifest) -> Subject:
    """Return the adapter of a decoder: served in float32 by both engines, and from the quantised file where its base is one.

    Raises FinetuneError.
    """
    base = find_base(run.recipe.model, terms.engine.cache_dir, terms.sources)
    floats = float_form(base.files, terms.engine.cache_dir)
    candidate = line_up(terms.run.absolute() / "adapter", None, fits_gguf(floats, terms.engine.cache_dir), base.files.reference)[0]

    def form(kind: str, weights: str, files: ModelFiles, *, exact: bool) -> ServingForm:
        context = context_tokens(run.recipe, files)
        build = partial(build_float_engine, terms.engine, files, context_tokens=context, slots=1, kind=kind)
        return ServingForm(f"{kind}, {weights}", exact, build)

    full = "bfloat16" if torch.cuda.is_available() else "float32"
    weights = full if terms.engine.weights == "full" else terms.engine.weights
    forms = [
        form("llamacpp", "float32", floats, exact=True),
        form("local", weights, base.files, exact=weights == "float32"),
    ]
    if base.files.path.is_file():
        forms.append(form("llamacpp", base.files.path.name, base.files, exact=False))
    return Subject(
        candidate,
        build_prompts(run.recipe, base, terms.tokens),
        partial(base.tokenizer.decode, skip_special=True),
        tuple(forms),
        lambda: GreedySpeaker(wearing(load_float(base.folder), candidate), base.tokenizer),
    )


def _questions(terms: Terms, run: RunManifest, subject: Subject) -> list[Question]:
    folder = terms.data or Path(run.data.path)
    samples = read_split(folder, "test") or read_split(folder, "valid")
    questions, _ = make_questions(subject.prompts, pick(samples, terms.prompts, run.recipe.seed))
    if not questions:
        raise FinetuneError(f"{folder} has no samples to ask about.", hint="Name another dataset with --data.")
    return questions[: terms.prompts]


def _speak(subject: Subject, questions: Sequence[Question], tell: OnProgress) -> list[tuple[Question, Spoken]]:
    speaker, counter = subject.open_speaker(), StepCounter(tell, _TORCH, len(questions))
    spoken: list[tuple[Question, Spoken]] = []
    for question in questions:
        spoken.append((question, speaker.speak(question)))
        counter.step()
    return spoken


async def _answers(form: ServingForm, subject: Subject, questions: Sequence[Question], tell: OnProgress) -> list[Answer]:
    engine, candidate = form.build(), subject.candidate
    try:
        await engine.set_adapters([] if candidate.reference is None else [candidate.reference])
        await engine.start()
        return await ask_engine(engine, questions, candidate.adapter, StepCounter(tell, form.name, len(questions)).step)
    finally:
        await engine.close()
