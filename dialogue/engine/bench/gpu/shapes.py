"""Models by their shape, with random weights made on the device: speed does not depend on what a model has learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from dialogue.engine.bench.metrics import ModelCost
from dialogue.engine.local.kv_store import bytes_per_token


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a published model."""

    family: str  # of transformers
    source: str  # repository on the hub whose config.json says so
    sizes: Mapping[str, Any]
    aims: Mapping[int, float]  # output tokens a second that are hoped for, by users, on an H200


_QWEN3: Final = {
    "vocab_size": 151_936,
    "head_dim": 128,
    "num_key_value_heads": 8,
    "rope_theta": 1_000_000.0,
    "max_position_embeddings": 40_960,
}

SHAPES: Final[Mapping[str, Shape]] = {
    "SmolLM2-135M": Shape(
        "llama",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        {
            "vocab_size": 49_152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        {1: 1000.0},
    ),
    "Qwen3-0.6B": Shape(
        "qwen3",
        "Qwen/Qwen3-0.6B",
        {
            **_QWEN3,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        {1: 400.0},
    ),
    "Qwen3-8B": Shape(
        "qwen3",
        "Qwen/Qwen3-8B",
        {
            **_QWEN3,
            "hidden_size": 4096,
            "intermediate_size": 12_288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "tie_word_embeddings": False,
        },
        {1: 180.0, 64: 6000.0, 256: 11_000.0},
    ),
    "tiny": Shape(
        "llama",
        "none: to try the bench itself",
        {
            "vocab_size": 97,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
        },
        {1: 1.0},
    ),
}


def random_model(shape: Shape, device: str, seed: int) -> Any:
    """Return a model of this shape on the device: bfloat16 on CUDA, float32 on a CPU."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(shape.family, **shape.sizes)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0, eos_token_id=None)  # replies have a fixed length
    return model.eval()


def cost(model: Any) -> ModelCost:
    """Return the bytes that a decoding step must at least read: all matrices, and the KV of each token before."""
    weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    if not model.config.tie_word_embeddings:  # of the embedding one row is read for each token
        weights -= model.get_input_embeddings().weight.numel() * model.dtype.itemsize
    return ModelCost(weights, bytes_per_token(model))
