"""From a training run to the agreement of every engine that can serve it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dialogue.config import EngineConfig
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.model_sources import ModelSources
from finetune.dataset import read_split
from finetune.errors import FinetuneError
from finetune.evaluation.agreement import Agreement, GreedySpeaker, Spoken, ask_engine, compare
from finetune.evaluation.answers import Answer, Question, make_questions
from finetune.evaluation.contenders import Contender, Place, line_up
from finetune.evaluation.evaluate import OnProgress, StepCounter
from finetune.evaluation.float_engine import build_float_engine, float_form
from finetune.evaluation.losses import load_float, with_adapters, worn
from finetune.evaluation.run_evaluation import build_material, context_tokens
from finetune.evaluation.selection import pick
from finetune.samples import Sample
from finetune.training.base_model import BaseFiles, find_base
from finetune.training.run_folder import RunManifest, read_run

_FLOAT: Final = "llamacpp, float32"


@dataclass(frozen=True, slots=True)
class Terms:
    """How much is compared, and with what."""

    run: Path
    data: Path | None  # the dataset whose prompts are asked; None = the one that was trained on
    prompts: int
    tokens: int  # of one answer, at most
    engine: EngineConfig
    sources: ModelSources


def run_agreement(terms: Terms, tell: OnProgress) -> tuple[Agreement, ...]:
    """Return the agreement of each engine. Raises FinetuneError, ModelError and EngineError."""
    run = read_run(terms.run)
    base = find_base(run.recipe.model, terms.engine.cache_dir, terms.sources)
    forms = _forms(base, terms.engine.cache_dir)
    candidate = line_up(terms.run.absolute() / "adapter", None, forms[_FLOAT], terms.engine.cache_dir)[0]
    questions = _questions(terms, run, base, candidate)
    spoken = _speak(base, candidate, questions, tell)
    found: list[Agreement] = []
    for name, files in forms.items():
        answers = asyncio.run(_answers(terms, name, files, candidate, questions, context_tokens(run.recipe, files), tell))
        found.append(compare(name, spoken, answers, base.tokenizer, exact=name == _FLOAT))
    return tuple(found)


def _forms(base: BaseFiles, cache_dir: Path) -> dict[str, ModelFiles]:
    """Return the files that engines on this machine can serve, by what people call them."""
    forms = {_FLOAT: float_form(base.files, cache_dir)}
    if base.files.path.is_file():
        forms[f"llamacpp, {base.files.path.name}"] = base.files
    return forms


def _questions(terms: Terms, run: RunManifest, base: BaseFiles, candidate: Contender) -> list[Question]:
    folder = terms.data or Path(run.data.path)
    samples: Sequence[Sample] = read_split(folder, "test") or read_split(folder, "valid")
    prompts = build_material(run.recipe, base, [candidate], samples).prompts
    chosen = pick(samples, terms.prompts, run.recipe.seed)
    questions, _ = make_questions(replace(prompts, max_reply_tokens=terms.tokens), chosen)
    if not questions:
        raise FinetuneError(f"{folder} has no samples to ask about.", hint="Name another dataset with --data.")
    return questions[: terms.prompts]


def _speak(base: BaseFiles, candidate: Contender, questions: Sequence[Question], tell: OnProgress) -> list[tuple[Question, Spoken]]:
    model = with_adapters(load_float(base.folder), [candidate])
    speaker = GreedySpeaker(model, base.tokenizer)
    counter = StepCounter(tell, "torch, float32", len(questions))
    with worn(model, candidate):
        return [(question, _counted(speaker, question, counter)) for question in questions]


def _counted(speaker: GreedySpeaker, question: Question, counter: StepCounter) -> Spoken:
    spoken = speaker.speak(question)
    counter.step()
    return spoken


async def _answers(  # noqa: PLR0917 - what is asked of one engine
    terms: Terms, name: str, files: ModelFiles, candidate: Contender, questions: Sequence[Question], context: int, tell: OnProgress
) -> list[Answer]:
    engine = build_float_engine(terms.engine, files, context_tokens=context, slots=1)
    try:
        await engine.set_adapters([reference for contender in (candidate,) if (reference := contender.reference)])
        await engine.start()
        return await ask_engine(engine, questions, Place.CANDIDATE.value, StepCounter(tell, name, len(questions)).step)
    finally:
        await engine.close()
