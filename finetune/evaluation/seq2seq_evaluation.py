"""From the training run of an encoder–decoder to its evaluation: the same steps, suites of its own.

What is generated comes from the engine that serves; losses are torch's, in float32.
"""

import asyncio
from typing import Final

from finetune.dataset import read_split
from finetune.evaluation.contenders import line_up
from finetune.evaluation.evaluate import Evaluation, Material, OnProgress
from finetune.evaluation.order import BaseHashes, Order, evaluated, provenance_of
from finetune.evaluation.seq2seq_losses import Seq2SeqLosses
from finetune.evaluation.seq2seq_scene import build_seq2seq_engine, engine_name, fits_seq2seq, load_float, task_prompts
from finetune.evaluation.seq2seq_suites import SEQ2SEQ_SUITES, own_gate
from finetune.manifest import read_manifest
from finetune.training.seq2seq_train import build_pair_renderer, find_seq2seq

_SLOTS: Final = 4  # texts at once: a CPU reads the weights once for all of them


def run_seq2seq_evaluation(order: Order, tell: OnProgress) -> Evaluation:
    """Return the evaluation. Takes minutes. Raises FinetuneError, ModelError and EngineError."""
    recipe = order.recipe.model_copy(update={"evaluate": own_gate(order.recipe.evaluate)})
    dataset, samples = read_manifest(order.dataset).version, read_split(order.dataset, "test")
    base = find_seq2seq(recipe.model, order.engine.cache_dir, order.sources)
    model = load_float(base)
    contenders = line_up(order.adapter, order.incumbent, fits_seq2seq(base, model), base.files.reference)
    hashes = BaseHashes(base.files.reference, base.files.sha256, base.codec.sha256, base.codec.layout_sha256)
    provenance = provenance_of(order, hashes, contenders, dataset, engine=engine_name(), packages=("sentencepiece",))
    engine = build_seq2seq_engine(order.engine, base.files, recipe, slots=_SLOTS)
    pair = build_pair_renderer(base.codec, recipe).pair
    prompts = task_prompts(base, recipe, recipe.evaluate.max_reply_tokens)
    material = Material(recipe, samples, contenders, pair, prompts, SEQ2SEQ_SUITES, _SLOTS)
    return asyncio.run(evaluated(engine, material, lambda: Seq2SeqLosses(model, contenders), provenance, tell))
