"""Random adapters for a tiny decoder: other ranks, on other layers, with other scales."""

from pathlib import Path
from typing import Any

from dialogue.engine.adapters import BaseModelFacts, load_adapter
from dialogue.engine.local.lora_layers import LoadedAdapter
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, Projection
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.dialogue.engine.local.decoder_scene import Bench

TARGETS: tuple[tuple[Projection, ...], ...] = (EVERY_PROJECTION, ATTENTION, FEED_FORWARD)
RANKS = (4, 2, 3)


def facts_of(weights: Any) -> BaseModelFacts:
    config = weights.config
    shapes = Bench(weights).model.lora.shapes
    return BaseModelFacts(config.model_type, "5" * 64, config.num_hidden_layers, config.num_attention_heads, 2, shapes)


def made(folder: Path, facts: BaseModelFacts, number: int) -> LoadedAdapter:
    rank, targets = RANKS[number - 1], TARGETS[number - 1]
    tensors = random_tensors(facts, targets, rank, seed=number, strength=0.5)
    adapter = load_adapter(write_adapter(folder, facts, targets=targets, rank=rank, tensors=tensors), facts)
    return LoadedAdapter(number, adapter.pairs, rank, scale=0.5 * number * adapter.config.scaling)
