"""What the mathematics of LoRA training costs, and how fast this machine multiplies matrices.

A weight costs 2 operations a token forwards and 2 for the gradient of its input; only a trained weight costs 2 more, for its own
gradient (Kaplan and others 2020, section 2.1: 2N forwards and 4N backwards where all are trained). So a frozen one costs 4 and
one of LoRA 6. The output layer counts at trained places alone, for nowhere else is a token predicted that the loss counts.
Causal attention of a row of T tokens is half of 4·T²·width a layer forwards, twice that backwards (the attention term of
Chowdhery and others 2022, appendix B, halved for the mask): 6·T²·width.

Padding and what gradient checkpointing computes twice are work, but none that the model needs: they make the share smaller.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from finetune.rendering import Row
from finetune.training.objective import output_layer


@dataclass(frozen=True, slots=True)
class Weights:
    """Sizes of a model that carries LoRA, in numbers."""

    body: int  # of frozen linear layers, without the output layer
    head: int  # of the output layer
    lora: int
    layers: int
    attention_width: int  # heads × numbers of each


def count_weights(model: Any) -> Weights:
    """Return the sizes of a decoder with PEFT's LoRA on it."""
    head = output_layer(model)
    lora = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    linear = {id(module): module for module in model.modules() if isinstance(module, nn.Linear) and module is not head}
    frozen = sum(module.weight.numel() for module in linear.values() if not module.weight.requires_grad)
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    head_weight: Any = head.weight
    return Weights(frozen, head_weight.numel(), lora, config.num_hidden_layers, width)


def model_flops(rows: Sequence[Row], weights: Weights) -> float:
    """Return the floating point operations that one pass over the rows needs, forwards and backwards."""
    tokens = sum(len(row.ids) for row in rows)
    squares = sum(len(row.ids) ** 2 for row in rows)
    trained = sum(row.trained_tokens for row in rows)
    attention = 6.0 * squares * weights.attention_width * weights.layers
    return tokens * (4.0 * weights.body + 6.0 * weights.lora) + trained * 4.0 * weights.head + attention


def matrix_rate(device: torch.device, seconds: float = 0.5) -> float:
    """Return the operations a second of a large matrix product, the best of many: bfloat16 on CUDA, float32 elsewhere."""
    is_cuda = device.type == "cuda"
    size = 8192 if is_cuda else 1024
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16 if is_cuda else torch.float32)
    best, spent = float("inf"), 0.0
    _timed(left)  # the first one also loads the library
    while spent < seconds:
        taken = _timed(left)
        best, spent = min(best, taken), spent + taken
    return 2.0 * size**3 / best


def _timed(left: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.mm(left, left)
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
