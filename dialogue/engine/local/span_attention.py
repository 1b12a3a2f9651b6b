"""Attention request by request, with what torch has on every device: one fused product over the places of each slot."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.slot_attention import Attention, Form


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of one request in a row."""

    first: int  # in the row
    count: int
    slot: int  # the first place of its slot
    length: int  # tokens in the slot, these included


def over_spans(store: KvStore, spans: Sequence[Span]) -> Attention:
    """Return the attention for a row of these spans."""

    def attention(query: torch.Tensor, layer: int, form: Form) -> torch.Tensor:
        return torch.cat([_attend(query[span.first : span.first + span.count], store, layer, span, form) for span in spans])

    return attention


def _attend(query: torch.Tensor, store: KvStore, layer: int, span: Span, form: Form) -> torch.Tensor:
    """Return (tokens, heads, size) for the queries of one span, shaped alike.

    The query heads that share a key head stand one below the other, as if they were more tokens: no key is repeated.
    """
    count, heads, size = query.shape
    seen = span.length if form.window is None else min(span.length, form.window + count - 1)
    places = slice(span.slot + span.length - seen, span.slot + span.length)
    keys, values = (tensor[layer][places].transpose(0, 1)[None] for tensor in (store.keys, store.values))
    groups = heads // keys.shape[1]
    mask = mask_of(count, seen, form.window, query.device)
    stacked = query.transpose(0, 1).reshape(1, -1, groups * count, size)
    result = _product(stacked, keys, values, None if mask is None else mask.repeat(groups, 1), form)
    return result.reshape(heads, count, size).transpose(0, 1)


def mask_of(count: int, seen: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Return which of the last `seen` tokens each of the last `count` sees, (count, seen); None = all of them."""
    if count == 1:
        return None
    back = torch.arange(seen - count, seen, device=device)[:, None] - torch.arange(seen, device=device)
    return back >= 0 if window is None else (back >= 0) & (back < window)


def _product(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, form: Form) -> torch.Tensor:
    if form.softcap is None:
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=form.scaling)
    scores = query @ keys.transpose(-1, -2) * form.scaling  # Gemma 2: no fused attention knows a soft cap
    scores = form.softcap * torch.tanh(scores / form.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ values
