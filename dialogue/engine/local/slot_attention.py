"""Attention over slots: what transformers' models call in the place of their own, by the name `NAME`.

The tokens of all requests of a step stand in one row, (1, heads, tokens, size). Each request's tokens see what lies in its own
slot up to themselves, and nothing else. The models stay as they are: transformers hands our argument `rows` through to here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from dialogue.engine.local.kv_store import KvStore

NAME: Final = "kefu_slots"
KNOWN_ARGUMENTS: Final = frozenset({"dropout", "position_ids", "use_cache", "is_causal", "output_attentions"})  # that change nothing here


@dataclass(frozen=True, slots=True)
class Form:
    """What a layer's attention is like."""

    scaling: float
    window: int | None  # tokens that each one sees, itself included; None = all before it
    softcap: float | None


# From the queries of a row, (tokens, heads, size), the number of a layer and the form of its attention to (tokens, heads, size).
Attention = Callable[[torch.Tensor, int, Form], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the keys and values of a row's tokens go, and how they are looked at."""

    store: KvStore
    places: torch.Tensor  # (tokens,)
    attention: Attention


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - transformers makes none for attention that it does not know
    *,
    rows: Rows,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Store keys and values, (1, heads, tokens, size), then attend. Returns (1, tokens, heads, size). Raises NotImplementedError."""
    unknown = {name for name, setting in others.items() if setting is not None} - KNOWN_ARGUMENTS
    if unknown:
        raise NotImplementedError(f"attention with {', '.join(sorted(unknown))}")
    rows.store.write(module.layer_idx, rows.places, key[0].transpose(0, 1), value[0].transpose(0, 1))
    form = Form(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    return rows.attention(query[0].transpose(0, 1), module.layer_idx, form)[None], None


def register() -> None:
    """Make the attention known to transformers. Harmless when it is known."""
    transformers.AttentionInterface.register(NAME, attend)
