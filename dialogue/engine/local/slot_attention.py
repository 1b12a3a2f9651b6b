"""Attention over slots: what transformers' models call in the place of their own, by the name `NAME`.

The tokens of all requests of a step stand in one row, (1, heads, tokens, size). Each request's tokens see what lies in its own
slot up to themselves, and nothing else. The models stay as they are: transformers hands our argument `rows` through to here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from dialogue.engine.local.kv_store import KvStore

NAME: Final = "kefu_slots"
KNOWN_ARGUMENTS: Final = frozenset({"dropout", "position_ids", "use_cache", "is_causal", "output_attentions"})  # that change nothing here


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of one request in the row."""

    first: int  # in the row
    count: int
    slot: int  # the first place of its slot
    length: int  # tokens in the slot, these included


@dataclass(frozen=True, slots=True)
class Rows:
    """Whose tokens a row holds, and where their keys and values go."""

    store: KvStore
    spans: Sequence[Span]
    places: torch.Tensor  # (tokens,) where the keys and values of each token go


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
    layer: int = module.layer_idx
    rows.store.write(layer, rows.places, key[0].transpose(0, 1), value[0].transpose(0, 1))
    form = Form(scaling or query.shape[-1] ** -0.5, sliding_window, softcap)
    parts = [_attend_span(query[0, :, span.first : span.first + span.count], rows.store, layer, span, form) for span in rows.spans]
    return torch.cat(parts)[None], None


@dataclass(frozen=True, slots=True)
class Form:
    """What a layer's attention is like."""

    scaling: float
    window: int | None  # tokens that each one sees, itself included; None = all before it
    softcap: float | None


def _attend_span(query: torch.Tensor, store: KvStore, layer: int, span: Span, form: Form) -> torch.Tensor:
    """Return (tokens, heads, size) for a query of (heads, tokens, size).

    The query heads that share a key head stand one below the other, as if they were more tokens: no key is repeated.
    """
    heads, count, size = query.shape
    seen = span.length if form.window is None else min(span.length, form.window + count - 1)
    places = slice(span.slot + span.length - seen, span.slot + span.length)
    keys, values = (tensor[layer][places].transpose(0, 1)[None] for tensor in (store.keys, store.values))
    groups = heads // keys.shape[1]
    mask = mask_of(count, seen, form.window, query.device)
    stacked = query.reshape(1, -1, groups * count, size)
    result = _attention(stacked, keys, values, None if mask is None else mask.repeat(groups, 1), form)
    return result.reshape(heads, count, size).transpose(0, 1)


def mask_of(count: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Return which of the last `seen` tokens each of the last `count` sees, (count, seen); None = all of them."""
    if count == 1:
        return None
    back = torch.arange(seen - count, seen, device=device)[:, None] - torch.arange(seen, device=device)
    return back >= 0 if window is None else (back >= 0) & (back < window)


def _attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, form: Form) -> torch.Tensor:
    if form.softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=form.scaling)
    scores = query @ keys.transpose(-1, -2) * form.scaling  # Gemma 2: no fused attention knows a soft cap
    scores = form.softcap * torch.tanh(scores / form.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values


def register() -> None:
    """Make the attention known to transformers. Harmless when it is known."""
    transformers.AttentionInterface.register(NAME, attend)
