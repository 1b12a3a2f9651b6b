"""Attention by its definition, in float64 and apart from the product: softmax(QKᵀ/√d_k)V (Vaswani and others 2017, equation 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]  # True = may be looked at


def attend(q: Array, k: Array, v: Array, mask: Mask) -> Array:
    """Return softmax(QKᵀ/√d_k)V for q (B, H, L, d_k), k and v (B, H, S, d_k), mask (B, L, S)."""
    scores = np.einsum("bhld,bhsd->bhls", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(mask[:, None], scores, -1e30)  # finite, because padding on the left sees nothing at all
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("bhls,bhsd->bhld", weights / weights.sum(axis=-1, keepdims=True), v)


def project(layer: nn.Module, x: Array) -> Array:
    """Return x Wᵀ + b of a linear layer."""
    bias = getattr(layer, "bias", None)
    product = x @ as_float64(layer.weight).T
    return product if bias is None else product + as_float64(bias)


def split_heads(x: Array, heads: int) -> Array:
    """(B, L, heads · d) → (B, heads, L, d)"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def join_heads(x: Array) -> Array:
    """(B, heads, L, d) → (B, L, heads · d)"""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def rotate(x: Array, positions: npt.NDArray[np.int64], base: float) -> Array:
    """Turn the pairs (i, i + d/2) of x (B, heads, L, d) by position · base^(-2i/d) (RoFormer, Su and others 2021)."""
    half = x.shape[-1] // 2
    angle = positions[:, None, :, None] * base ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1)


def causal(length: int) -> Mask:
    """(L, L): each token sees itself and what is before it."""
    return np.tri(length, dtype=bool)


def as_float64(tensor: Any) -> Array:
    return tensor.detach().double().numpy()


@dataclass(frozen=True)
class Call:
    """One call of an attention layer as the model made it."""

    queries: Array  # what the queries are made of, (B, L, width)
    keys: Array  # what keys and values are made of
    output: Array


def recorded(layers: Sequence[nn.Module], run: Any) -> list[Call]:
    """Run the model and return what went into each of the layers and came out."""
    calls: dict[nn.Module, Call] = {}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        other = kwargs.get("key_value_states")
        calls[layer] = Call(as_float64(hidden), as_float64(hidden if other is None else other), as_float64(output[0]))

    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [calls[layer] for layer in layers]


def randomise(model: nn.Module, seed: int) -> None:
    """Give every weight, biases too, a size at which attention is sharp."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.4, generator=generator)
