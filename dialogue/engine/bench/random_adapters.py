"""LoRA adapters of random weights that fit a model: their cost is that of trained ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from dialogue.engine.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from dialogue.engine.adapters import BASE_HASH_KEY
from dialogue.engine.base import AdapterRef
from dialogue.engine.bench.model_cost import tensor_shapes
from dialogue.engine.bench.workload import adapter_name
from dialogue.engine.lora_gguf import ServedFiles, served_facts
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, Projection
from dialogue.engine.model_files import ModelFiles

RANK: Final = 8
STRENGTH: Final = 0.01  # of B: the model goes on to speak

Shapes = Mapping[Projection, tuple[int, int]]  # (outputs, inputs), equal in all layers


def write_adapters(count: int, files: ModelFiles, folder: Path, cache_dir: Path) -> tuple[AdapterRef, ...]:
    """Write adapters for every linear layer of a model. Raises AdapterRejected for a model whose layers are not known."""
    layers, shapes = _facts(files, cache_dir)
    return tuple(_write(folder / adapter_name(number), number, files.sha256, layers, shapes) for number in range(count))


def _facts(files: ModelFiles, cache_dir: Path) -> tuple[int, Shapes]:
    if not files.path.is_dir():
        facts = served_facts(ServedFiles(files.path, files.sha256), cache_dir)
        return facts.layers, facts.projections
    shapes = tensor_shapes(files.path)
    first = {name: shapes[tensor] for name in (*ATTENTION, *FEED_FORWARD) if (tensor := f"model.layers.0.{_place(name)}.weight") in shapes}
    layers = len({name.split(".")[2] for name in shapes if name.startswith("model.layers.")})
    return layers, {name: (shape[0], shape[1]) for name, shape in first.items()}


def _place(name: Projection) -> str:
    return f"{'self_attn' if name in ATTENTION else 'mlp'}.{name}"


def _write(folder: Path, number: int, base_sha256: str, layers: int, shapes: Shapes) -> AdapterRef:
    folder.mkdir(parents=True)
    chance = np.random.default_rng(number)
    tensors = {}
    for layer in range(layers):
        for name, (outputs, inputs) in shapes.items():
            prefix = f"base_model.model.model.layers.{layer}.{_place(name)}"
            tensors[f"{prefix}.lora_A.weight"] = chance.standard_normal((RANK, inputs), np.float32)
            tensors[f"{prefix}.lora_B.weight"] = STRENGTH * chance.standard_normal((outputs, RANK), np.float32)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt", BASE_HASH_KEY: base_sha256})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "target_modules": list(shapes)}
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    return AdapterRef(folder.name, str(folder))
