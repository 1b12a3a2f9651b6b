"""Pretraining, from a recipe to the folder of a finished run.

plan.json             what was asked for, and the hash of the corpus
checkpoints/          to go on from
metrics.jsonl         what was measured on the way
learning_curve.png
model/                a folder as transformers saves it, with tokenizer, chat template and card
model.gguf            the same in float32 for llama.cpp, where the architecture allows it
pretrain.json         the manifest; written last, so that a run with one is finished
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError

from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from dialogue.errors import ModelError
from finetune.config import Section
from finetune.errors import FinetuneError, TrainingFailed
from finetune.pretraining.config import PretrainRecipe
from finetune.pretraining.learners import Learner, make_learner, read_corpus
from finetune.pretraining.outcome import (
    MANIFEST_NAME,
    CorpusManifest,
    PretrainManifest,
    corpus_sha256,
    model_card,
    write_manifest,
)
from finetune.pretraining.unigram import measure
from finetune.training import metrics_file
from finetune.training.callbacks import Display
from finetune.training.curve import CURVE_NAME, draw
from finetune.training.faults import explained
from finetune.training.fit import Outcome, fit
from finetune.training.gguf_export import export_gguf

PLAN_NAME: Final = "plan.json"
MODEL_FOLDER: Final = "model"
GGUF_NAME: Final = "model.gguf"
SMALL_MODEL: Final = 10_000_000  # weights
LIBRARIES: Final = ("torch", "transformers", "tokenizers", "peft", "accelerate", "kefu")


class PretrainPlan(Section):
    """What was asked for."""

    recipe: PretrainRecipe
    corpus_sha256: str


def pretrain(
    recipe: PretrainRecipe,
    run: Path,
    cache_dir: Path,
    display: Display,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> PretrainManifest | None:
    """Train and write the run's folder; None when it was interrupted and has checkpoints alone.

    Raises RecipeInvalid, FinetuneError, ModelError and TemplateError.
    """
    with explained(run):
        corpus = read_corpus(recipe)
        plan = PretrainPlan(recipe=recipe, corpus_sha256=corpus_sha256(corpus))
        _begin(plan, run, resume=resume)
        tell(f"{len(corpus.train)} documents or pairs to learn, {len(corpus.valid)} held out.")
        learner = make_learner(recipe, corpus, run / MODEL_FOLDER, cache_dir, sources)
        _tell_sizes(learner, tell)
        with _few_threads(learner.task.model):
            outcome = fit(learner.task, recipe.train, recipe.seed, run, display, resume=resume, tell=tell)
            if outcome.interrupted:
                return None
            manifest = _manifest(plan, learner, outcome)
        if outcome.is_main:
            _finish(run, learner, manifest, tell)
    return manifest


@contextmanager
def _few_threads(model: Any) -> Iterator[None]:
    """Let a small model be computed on one thread: more of them wait for one another longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if _weights(model) < SMALL_MODEL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_reached(manifest: PretrainManifest) -> None:
    """Raise TrainingFailed when the held-out loss did not fall as far as it must, though the model is saved."""
    if manifest.reached:
        return
    what = "what the base has" if manifest.recipe.base else "the unigram entropy, which needs no look at the context"
    raise TrainingFailed(
        f"The held-out loss, {manifest.held_out_loss:.4f} nats per token, did not fall below {manifest.goal:.4f}: {what}.",
        hint="Train longer (train.epochs), try another train.learning_rate, or give it more text.",
    )


def _begin(plan: PretrainPlan, run: Path, *, resume: bool) -> None:
    """Check that the run's folder is new, or that of the same run, and write the plan into it. Raises FinetuneError."""
    if resume:
        if _read_plan(run) != plan:
            raise FinetuneError(f"{run} was begun with another recipe or corpus.", hint="Take those, or name another folder with --out.")
        if (run / MANIFEST_NAME).exists():
            raise FinetuneError(f"{run} is finished.", hint=f"Its model lies in {run / MODEL_FOLDER}.")
    elif run.exists() and any(run.iterdir()):
        raise FinetuneError(f"{run} is not empty.", hint="Go on with --resume, or name another folder with --out.")
    run.mkdir(parents=True, exist_ok=True)
    (run / PLAN_NAME).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _read_plan(run: Path) -> PretrainPlan | None:
    try:
        return PretrainPlan.model_validate_json((run / PLAN_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def _tell_sizes(learner: Learner, tell: Callable[[str], None]) -> None:
    if learner.left_out:
        tell(f"{learner.left_out} pairs are longer than the model's positions and are left out.")
    vocabularies = " and ".join(str(pieces) for pieces in learner.vocabularies)
    tokens = learner.train_counts.total()
    tell(f"{_weights(learner.task.model)} weights, vocabulary of {vocabularies} pieces, {tokens} trained tokens an epoch.")


def _finish(run: Path, learner: Learner, manifest: PretrainManifest, tell: Callable[[str], None]) -> None:
    folder = run / MODEL_FOLDER
    learner.finished(learner.task.model).save_pretrained(folder)
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    if manifest.recipe.encoder_decoder is None:
        try:
            export_gguf(folder, run / GGUF_NAME)
        except (FinetuneError, ModelError) as error:  # a base of any kind may be continued
            tell(f"There is no GGUF file of the model. {error}")
    draw(metrics_file.read(run), run / CURVE_NAME)
    write_manifest(run, manifest)


def _manifest(plan: PretrainPlan, learner: Learner, outcome: Outcome) -> PretrainManifest:
    unigram = measure(learner.train_counts, learner.held_out_counts)
    before, after = _known(outcome.base_loss), _known(outcome.held_out_loss)
    return PretrainManifest(
        recipe=plan.recipe,
        corpus=_corpus_manifest(plan, learner),
        vocabularies=learner.vocabularies,
        weights=_weights(learner.task.model),
        trained_weights=sum(weight.numel() for weight in learner.task.model.parameters() if weight.requires_grad),
        corpus_unigram_entropy=unigram.corpus,
        held_out_unigram_entropy=unigram.held_out,
        steps=outcome.steps,
        loss_before=before,
        held_out_loss=after,
        goal=before if plan.recipe.base else unigram.goal,
        train_loss=outcome.train_loss,
        trained_tokens_per_s=round(outcome.trained_tokens / outcome.seconds, 1) if outcome.seconds else 0.0,
        seconds=round(outcome.seconds, 1),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads",
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _corpus_manifest(plan: PretrainPlan, learner: Learner) -> CorpusManifest:
    return CorpusManifest(
        sha256=plan.corpus_sha256,
        trained_items=learner.items[0],
        held_out_items=learner.items[1],
        left_out=learner.left_out,
        trained_tokens=learner.train_counts.total(),
        held_out_tokens=learner.held_out_counts.total(),
    )


def _known(loss: float | None) -> float:
    if loss is None:
        raise TrainingFailed("The held-out loss was never measured.", hint="Lower train.evaluate_every below the number of steps.")
    return loss


def _weights(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())
