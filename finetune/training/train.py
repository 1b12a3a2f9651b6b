"""A LoRA training run of a decoder, from a plan to the folder of a finished run."""

import platform
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from finetune.config import LoraSection
from finetune.dataset import read_split
from finetune.errors import DatasetInvalid, FinetuneError
from finetune.manifest import DatasetManifest, read_manifest
from finetune.rendering import build_renderer
from finetune.training import metrics_file
from finetune.training.base_model import BaseFiles, find_base, load_weights
from finetune.training.callbacks import Display
from finetune.training.card import model_card
from finetune.training.curve import CURVE_NAME, draw
from finetune.training.examples import Examples, packed, render_some
from finetune.training.faults import explained
from finetune.training.fit import Outcome, Task, fit
from finetune.training.forms import other_forms
from finetune.training.isolation import keeps_apart
from finetune.training.lora import attach, quantisation, round_weights, write_adapter
from finetune.training.objective import DecoderObjective
from finetune.training.plan import TrainingPlan, read_plan, write_plan
from finetune.training.run_folder import (
    MANIFEST_NAME,
    BaseManifest,
    DataManifest,
    ResultManifest,
    RunManifest,
    write_manifest,
)

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "kefu")


def train(
    plan: TrainingPlan,
    display: Display,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train as planned and write the run's folder. An interrupted run has checkpoints, and no adapter.

    Raises FinetuneError, ModelError and RecipeInvalid.
    """
    recipe = plan.recipe
    if recipe.train.full:
        raise FinetuneError("train.full = true trains every weight, which makes no adapter.", hint="`kefu finetune pretrain` does that.")
    with explained(plan.run):
        base = find_base(recipe.model, plan.cache_dir, sources)
        renderer = build_renderer(base.template, base.tokenizer, recipe.dialogue_config(), recipe.train.row_tokens)
        data = read_manifest(plan.dataset)
        rows, held_out_rows = (render_some(read_split(plan.dataset, split), renderer) for split in ("train", "valid"))
        if not rows.rows:
            raise DatasetInvalid(f"{plan.dataset} holds nothing to train on.", hint="Look at it with `kefu finetune data show`.")
        model = adapted_model(base, recipe.train.lora, recipe.seed)
        together = keeps_apart(model, rows.rows)
        learned, held_out = (packed(each, recipe.train.row_tokens, together=together) for each in (rows, held_out_rows))
        task = Task(model, DecoderObjective(), learned.packs, held_out.packs, _summary(learned, together=together))
        outcome = fit(task, recipe.train, recipe.seed, plan.run, display, resume=plan.resume, tell=tell)
        if outcome.is_main and not outcome.interrupted:
            finish(plan, _base_manifest(base, plan.cache_dir), model, _data_manifest(plan.dataset, data, learned), outcome)
    return outcome


def _summary(learned: Examples, *, together: bool) -> str:
    if not together:
        return f"{learned.rows} rows, each computed alone, for this model would let packed ones see one another."
    packs = f"{learned.rows} rows in {len(learned.packs)} packs, {learned.fill_rate:.0%} full"
    return f"{packs}; {learned.trained_tokens} trained tokens an epoch."


def adapted_model(base: BaseFiles, section: LoraSection, seed: int) -> Any:
    """Return the base model with fresh LoRA layers. The same seed gives the same layers. Raises FinetuneError and ModelError."""
    options = quantisation(section)
    model = load_weights(base.folder, **options)
    transformers.set_seed(seed)
    return attach(model, section)


def begin(plan: TrainingPlan) -> None:
    """Check that the run's folder is new, or that of the same run, and write the plan into it. Raises FinetuneError."""
    manifest = plan.run / MANIFEST_NAME
    if plan.resume:
        before = read_plan(plan.run / "plan.json")
        if (before.recipe, before.dataset) != (plan.recipe, plan.dataset):
            raise FinetuneError(
                f"{plan.run} was begun with another recipe or dataset.", hint="Take those, or name another folder with --out."
            )
        if manifest.exists():
            raise FinetuneError(f"{plan.run} is finished.", hint=f"Its adapter lies in {plan.adapter}.")
    elif plan.run.exists() and any(plan.run.iterdir()):
        raise FinetuneError(f"{plan.run} is not empty.", hint="Go on with --resume, or name another folder with --out.")
    write_plan(plan)


def finish(plan: TrainingPlan, base: BaseManifest, model: Any, data: DataManifest, outcome: Outcome) -> None:
    """Write everything that a finished run's folder holds, the manifest last."""
    round_weights(model)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    manifest = RunManifest(
        base=base,
        data=data,
        recipe=plan.recipe,
        result=_result_manifest(outcome, trained),
        versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    shutil.rmtree(plan.adapter, ignore_errors=True)
    write_adapter(model, plan.adapter, manifest.base.reference, manifest.metadata())
    (plan.adapter / "README.md").write_text(model_card(manifest), encoding="utf-8")
    draw(metrics_file.read(plan.run), plan.run / CURVE_NAME)
    write_manifest(plan.run, manifest)


def _base_manifest(base: BaseFiles, cache_dir: Path) -> BaseManifest:
    files = base.files
    return BaseManifest(
        reference=files.reference,
        name=files.name,
        architecture=files.architecture,
        sha256=files.sha256,
        forms=other_forms(base, cache_dir),
        tokenizer_sha256=base.tokenizer.sha256,
        template_sha256=base.template.sha256,
    )


def _data_manifest(folder: Path, manifest: DatasetManifest, learned: Examples) -> DataManifest:
    return DataManifest(
        path=str(folder),
        name=manifest.name,
        version=manifest.version,
        sources=tuple({"name": source.name, "licence": source.licence, "origin": source.origin} for source in manifest.sources),
        samples=manifest.splits["train"].samples,
        rows=learned.rows,
        packs=len(learned.packs),
        fill_rate=round(learned.fill_rate, 4),
        trained_tokens=learned.trained_tokens,
        left_out=learned.left_out,
    )


def _result_manifest(outcome: Outcome, trained_weights: int) -> ResultManifest:
    return ResultManifest(
        steps=outcome.steps,
        held_out_loss=outcome.held_out_loss,
        base_held_out_loss=outcome.base_loss,
        train_loss=outcome.train_loss,
        trained_weights=trained_weights,
        trained_tokens_per_s=round(outcome.trained_tokens / outcome.step_seconds, 1) if outcome.step_seconds else 0.0,
        seconds=round(outcome.seconds, 1),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads",
    )
