"""Attention over all requests of a step at once: FlashAttention as torch itself brings it, `torch.nn.attention.varlen`.

It exists on CUDA alone and has never run there with this program: what is tested, on a CPU, is that its arguments mean what
they should, against a stand-in written from its documentation. `decoder_trial` tries it at each start, and takes the attention
request by request where it fails.
"""

from collections.abc import Callable, Sequence
from importlib import util
from typing import Any

import torch

from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.slot_attention import Attention, Form
from dialogue.engine.local.span_attention import Span, over_spans

AttentionOver = Callable[[KvStore, Sequence[Span]], Attention]
FLASH_TYPES = frozenset({torch.bfloat16, torch.float16})


def best_attention(device: torch.device, dtype: torch.dtype) -> AttentionOver:
    """Return the attention that should be the fastest with this torch on a device; it has yet to be tried."""
    if device.type == "cuda" and dtype in FLASH_TYPES and util.find_spec("torch.nn.attention.varlen") is not None:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - older versions of torch have none

        return over_slots(varlen_attn)
    return over_spans


def over_slots(varlen: Any) -> AttentionOver:
    """Return the attention that `varlen` makes of a row. Spans must stand in the order of their slots."""

    def attention_over(store: KvStore, spans: Sequence[Span]) -> Attention:
        device = store.keys[0].device
        # A slot's keys are a sequence that ends where the next slot begins; how much of it is filled is said beside it.
        query_starts = _whole([span.first for span in spans] + [spans[-1].first + spans[-1].count], device)
        key_starts = _whole([span.slot for span in spans] + [store.places], device)
        filled = _whole([span.length for span in spans], device)
        longest = max(span.count for span in spans), max(span.length for span in spans)
        by_spans = over_spans(store, spans)

        def attention(query: torch.Tensor, layer: int, form: Form) -> torch.Tensor:
            if form.softcap is not None:
                return by_spans(query, layer, form)
            return varlen(
                query.contiguous(),
                store.keys[layer],
                store.values[layer],
                query_starts,
                key_starts,
                *longest,
                scale=form.scaling,
                window_size=(-1 if form.window is None else form.window - 1, 0),
                enable_gqa=True,
                seqused_k=filled,
            )

        return attention

    return attention_over


def _whole(values: list[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)
