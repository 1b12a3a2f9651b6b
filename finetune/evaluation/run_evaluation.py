"""From the training run of a decoder to its evaluation: model, adapters, engine and meter of losses are put together here.

What is generated comes from the engine that serves, on the float32 form of the base model, so that what is compared are adapters
and not roundings. Losses are torch's.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from dialogue.engine.model_files import ModelFiles
from finetune.config import Recipe
from finetune.dataset import read_split
from finetune.evaluation.answers import PromptMaker
from finetune.evaluation.builtin import built_in_samples
from finetune.evaluation.contenders import Contender, fits_gguf, line_up
from finetune.evaluation.evaluate import Evaluation, Material, OnProgress
from finetune.evaluation.float_engine import build_float_engine, float_form
from finetune.evaluation.losses import TorchLosses
from finetune.evaluation.order import BaseHashes, Order, evaluated, provenance_of
from finetune.manifest import read_manifest
from finetune.rendering import Row, build_renderer
from finetune.samples import Sample
from finetune.training.base_model import BaseFiles, find_base

_SLOTS: Final = 4  # questions at once: a CPU reads the weights once for all of them
_PROMPT_TOKENS: Final = 2048  # of a prompt with its examples; rows of training may be shorter


def run_evaluation(order: Order, tell: OnProgress) -> Evaluation:
    """Return the evaluation. Takes minutes to hours. Raises FinetuneError, ModelError and EngineError."""
    dataset = read_manifest(order.dataset).version
    samples = [*read_split(order.dataset, "test"), *built_in_samples()]
    base = find_base(order.recipe.model, order.engine.cache_dir, order.sources)
    served = float_form(base.files, order.engine.cache_dir)
    contenders = line_up(order.adapter, order.incumbent, fits_gguf(served, order.engine.cache_dir), base.files.reference)
    hashes = BaseHashes(base.files.reference, base.files.sha256, base.tokenizer.sha256, base.template.sha256)
    provenance = provenance_of(order, hashes, contenders, dataset, engine="llamacpp, float32 GGUF", packages=("xllamacpp",))
    engine = build_float_engine(order.engine, served, context_tokens=context_tokens(order.recipe, served), slots=_SLOTS)
    material = build_material(order.recipe, base, contenders, samples)
    return asyncio.run(evaluated(engine, material, lambda: TorchLosses(base.folder, contenders), provenance, tell))


def build_material(recipe: Recipe, base: BaseFiles, contenders: Sequence[Contender], samples: Sequence[Sample]) -> Material[Row]:
    """Return what the evaluator works with."""
    rows = build_renderer(base.template, base.tokenizer, recipe.dialogue_config(), recipe.train.row_tokens)
    return Material(recipe, samples, contenders, rows.row, build_prompts(recipe, base, recipe.evaluate.max_reply_tokens), slots=_SLOTS)


def build_prompts(recipe: Recipe, base: BaseFiles, max_reply_tokens: int) -> PromptMaker:
    """Return what makes the prompts of a decoder."""
    config = recipe.dialogue_config()
    renderer = build_renderer(base.template, base.tokenizer, config, context_tokens(recipe, base.files))
    return PromptMaker(renderer, config, max_reply_tokens)


def context_tokens(recipe: Recipe, files: ModelFiles) -> int:
    """Return how many tokens a prompt and its answer may have."""
    return min(files.context_tokens, max(_PROMPT_TOKENS, recipe.train.row_tokens))
