"""A LoRA training run of an encoder–decoder, from a plan to the folder of a finished run. The steps are those of every run (`fit`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_model import load_weights
from dialogue.engine.local.seq2seq_pull import pull_seq2seq
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from dialogue.skills.registry import load_skills
from dialogue.task_prompt import TaskPromptBuilder
from finetune.config import LoraSection, Recipe
from finetune.dataset import read_split
from finetune.errors import DatasetInvalid, FinetuneError
from finetune.manifest import DatasetManifest, read_manifest
from finetune.training.callbacks import Display
from finetune.training.faults import explained
from finetune.training.fit import Outcome, Task, fit
from finetune.training.lora import attach
from finetune.training.plan import TrainingPlan
from finetune.training.run_folder import BaseManifest, DataManifest
from finetune.training.seq2seq_examples import PairExamples, PairRenderer, render_pairs
from finetune.training.seq2seq_objective import Seq2SeqObjective
from finetune.training.train import finish

TASK = "SEQ_2_SEQ_LM"  # PEFT's word for it


@dataclass(frozen=True, slots=True)
class Seq2SeqBase:
    """An encoder–decoder on this machine, before its weights are loaded."""

    files: ModelFiles
    codec: Seq2SeqCodec

    def manifest(self) -> BaseManifest:
        """Return what an adapter is pinned to: the same hashes that the engine has."""
        return BaseManifest(
            reference=self.files.reference,
            name=self.files.name,
            architecture=self.files.architecture,
            sha256=self.files.sha256,
            forms={},
            tokenizer_sha256=self.codec.sha256,
            template_sha256=self.codec.layout_sha256,
        )


def train_seq2seq(
    plan: TrainingPlan,
    display: Display,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train as planned and write the run's folder. An interrupted run has checkpoints, and no adapter.

    Raises FinetuneError, ModelError, EngineUnavailable and RecipeInvalid.
    """
    recipe = plan.recipe
    with explained(plan.run):
        base = find_seq2seq(recipe.model, plan.cache_dir, sources)
        renderer = build_pair_renderer(base.codec, recipe)
        data = read_manifest(plan.dataset)
        learned, held_out = (
            render_pairs(read_split(plan.dataset, split), renderer, recipe.train.row_tokens) for split in ("train", "valid")
        )
        if not learned.buckets:
            raise DatasetInvalid(
                f"{plan.dataset} holds nothing to train on: {_reasons(learned)}.", hint="Its skills must be translate or summarize."
            )
        model = adapted_seq2seq(base, recipe.train.lora, recipe.seed)
        task = Task(model, Seq2SeqObjective(), learned.buckets, held_out.buckets, _summary(learned))
        outcome = fit(task, recipe.train, recipe.seed, plan.run, display, resume=plan.resume, tell=tell)
        if outcome.is_main and not outcome.interrupted:
            finish(plan, base.manifest(), model, _data_manifest(plan, data, learned), outcome)
    return outcome


def find_seq2seq(reference: str, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Seq2SeqBase:
    """Return the files of a model, fetched if they are not there yet. Any pair of languages may be learned. Raises ModelError."""
    files = pull_seq2seq(reference, cache_dir, sources=sources)
    return Seq2SeqBase(files, Seq2SeqCodec(files.path, any_pair=True))


def build_pair_renderer(codec: Seq2SeqCodec, recipe: Recipe, row_tokens: int | None = None) -> PairRenderer:
    """Return the renderer of a model for pairs of at most `row_tokens` tokens; None = as many as the recipe says."""
    tokens = row_tokens or recipe.train.row_tokens
    return PairRenderer(
        load_skills(recipe.dialogue_config(), installed=()), TaskPromptBuilder(codec, 2 * tokens), codec.encode_reply, tokens
    )


def adapted_seq2seq(base: Seq2SeqBase, section: LoraSection, seed: int) -> Any:
    """Return the base model with fresh LoRA layers. The same seed gives the same layers. Raises FinetuneError and EngineUnavailable."""
    if section.quantise != "none" or section.dora:
        raise FinetuneError("Encoder–decoders are trained without quantise and dora.", hint="Take both out of [train.lora].")
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = load_weights(base.files.path, torch.device("cpu"), dtype)
    transformers.set_seed(seed)
    return attach(model, section, TASK)


def _summary(learned: PairExamples) -> str:
    pairs = f"{len(learned.pairs)} pairs in {len(learned.buckets)} buckets, {learned.fill_rate:.0%} full"
    return f"{pairs}; {learned.trained_tokens} trained tokens an epoch."


def _reasons(examples: PairExamples) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in examples.left_out.items()) or "no samples"


def _data_manifest(plan: TrainingPlan, manifest: DatasetManifest, learned: PairExamples) -> DataManifest:
    return DataManifest(
        path=str(plan.dataset),
        name=manifest.name,
        version=manifest.version,
        sources=tuple({"name": source.name, "licence": source.licence, "origin": source.origin} for source in manifest.sources),
        samples=manifest.splits["train"].samples,
        rows=len(learned.pairs),
        packs=len(learned.buckets),
        fill_rate=round(learned.fill_rate, 4),
        trained_tokens=learned.trained_tokens,
        left_out=learned.left_out,
    )
