"""The least that a decoding step must read of a model: its matrices, and the KV of the tokens before. For the share of the roofline."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from dialogue.engine.bench.metrics import ModelCost
from dialogue.tokenizer import read_json

FLOAT16_BYTES = 2  # llama.cpp's KV


def gguf_cost(path: Path) -> ModelCost:
    """Return the cost of a GGUF file as llama.cpp runs it. Takes a second."""
    reader = gguf.GGUFReader(path)
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    untied = "output.weight" in sizes  # else the embedding is the output layer, and is read whole
    weights = sum(size for name, size in sizes.items() if not (untied and name == "token_embd.weight"))
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    architecture = fields["general.architecture"]

    def number(name: str, default: int = 0) -> int:
        return int(fields.get(f"{architecture}.{name}", default))

    heads = number("attention.head_count", 1)
    width = number("attention.key_length") or number("embedding_length") // heads
    kv_heads = number("attention.head_count_kv", heads)
    return ModelCost(weights, 2 * number("block_count") * kv_heads * width * FLOAT16_BYTES)


def torch_cost(path: Path, bytes_per_value: int) -> ModelCost:
    """Return the cost of the same model as torch runs it: 4 bytes a value on a CPU, 2 on CUDA. Takes a GGUF file or a folder."""
    return _folder_cost(path, bytes_per_value) if path.is_dir() else _dequantised_cost(path, bytes_per_value)


def _dequantised_cost(path: Path, bytes_per_value: int) -> ModelCost:
    counts = {tensor.name: int(tensor.n_elements) for tensor in gguf.GGUFReader(path).tensors}
    untied = "output.weight" in counts
    values = sum(count for name, count in counts.items() if not (untied and name == "token_embd.weight"))
    return ModelCost(values * bytes_per_value, gguf_cost(path).kv_bytes_per_token * bytes_per_value // FLOAT16_BYTES)


def _folder_cost(folder: Path, bytes_per_value: int) -> ModelCost:
    shapes = tensor_shapes(folder)
    config = read_json(folder / "config.json")
    untied = "lm_head.weight" in shapes
    values = sum(_count(shape) for name, shape in shapes.items() if not (untied and name.endswith("embed_tokens.weight")))
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
    kv_values = 2 * int(config["num_hidden_layers"]) * int(config.get("num_key_value_heads", heads)) * width
    return ModelCost(values * bytes_per_value, kv_values * bytes_per_value)


def tensor_shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of every tensor in a folder's *.safetensors, from their headers alone."""
    return {name: tuple(entry["shape"]) for path in sorted(folder.glob("*.safetensors")) for name, entry in _header(path).items()}


def _header(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(size))
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
