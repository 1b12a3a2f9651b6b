"""What `kefu finetune evaluate` does: find run and incumbent, evaluate, write the folder, register."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.config import Recipe
from finetune.errors import FinetuneError
from finetune.evaluation.answers_file import write_answers
from finetune.evaluation.evaluate import Evaluation, OnProgress
from finetune.evaluation.order import Order
from finetune.evaluation.register import active_adapter, register
from finetune.evaluation.report import write_report
from finetune.evaluation.run_evaluation import run_evaluation
from finetune.evaluation.seq2seq_evaluation import run_seq2seq_evaluation
from finetune.evaluation.verdict import Verdict, encode_verdict
from finetune.training.run_folder import RunManifest, read_run

FOLDER: Final = "evaluation"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line."""

    run: Path
    data: Path | None
    incumbent: Path | None  # None = what answers now: the active release, or the adapter that the settings name for the model
    against_base: bool  # whether nothing but the base model is to be beaten
    suites: tuple[str, ...]
    samples: int | None
    register: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out, and where it lies."""

    verdict: Verdict
    folder: Path
    release_id: str  # "" = not registered

    def summary(self) -> Mapping[str, Any]:
        """Return what a script wants to know."""
        return {
            "passed": self.verdict.passed,
            "reference": self.verdict.reference,
            "reasons": self.verdict.reasons,
            "verdict": str(self.folder / "verdict.json"),
            "report": str(self.folder / "report.html"),
            "release": self.release_id or None,
        }


def evaluate_run(request: Request, program: ProgramConfig, sources: ModelSources, tell: OnProgress) -> Outcome:
    """Evaluate the adapter of a training run and write its evaluation folder. Raises FinetuneError, ModelError and EngineError."""
    run = read_run(request.run)
    adapter = request.run.absolute() / "adapter"
    _check_kind(run, request.run)
    incumbent = None if request.against_base else request.incumbent or serving_adapter(program, run)
    order = Order(_recipe(run, request), adapter, incumbent, request.data or Path(run.data.path), program.engine, sources)
    evaluate = run_seq2seq_evaluation if run.recipe.train.architecture == "seq2seq" else run_evaluation
    evaluation = evaluate(order, tell)
    folder = request.run / FOLDER
    write_folder(evaluation, run, request.run, folder)
    release = asyncio.run(register(evaluation.verdict, run, adapter, program)) if request.register else ""
    return Outcome(evaluation.verdict, folder, release)


def serving_adapter(program: ProgramConfig, run: RunManifest) -> Path | None:
    """Return the adapter that answers with the run's base now, None when the base model itself does. Raises StorageError."""
    active = asyncio.run(active_adapter(program.storage, run.base.sha256))
    own = program.adapter if run.base.reference == program.engine.model else program.skill_adapters.get(run.base.reference)
    return active or own


def _check_kind(run: RunManifest, folder: Path) -> None:
    if run.kind != "lora":
        raise FinetuneError(f"{folder} holds no LoRA adapter, and only these are compared.")


def write_folder(evaluation: Evaluation, run: RunManifest, run_folder: Path, folder: Path) -> None:
    """Write verdict, answers and report."""
    folder.mkdir(parents=True, exist_ok=True)
    write_answers(evaluation, folder / "answers.jsonl")
    write_report(evaluation, run, run_folder, folder / "report.html")
    (folder / "verdict.json").write_text(encode_verdict(evaluation.verdict) + "\n", encoding="utf-8")


def _recipe(run: RunManifest, request: Request) -> Recipe:
    changes: dict[str, Any] = {"suites": request.suites} if request.suites else {}
    if request.samples is not None:
        changes["samples"] = request.samples
    section = run.recipe.evaluate.model_copy(update=changes)
    return run.recipe.model_copy(update={"evaluate": section})
