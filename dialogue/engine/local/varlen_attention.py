"""Attention over all requests of a step at once: FlashAttention as torch itself brings it, `torch.nn.attention.varlen`.

It exists on CUDA alone and has never run there with this program: what is tested, on a CPU, is that its arguments mean what
they should, against a stand-in written from its documentation. `decoder_trial` tries it at each start, and takes the attention
request by request where it fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import util
from typing import Any

import torch

from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.slot_attention import Attention, Form
from dialogue.engine.local.span_attention import Span, over_spans
from dialogue.engine.local.uploads import upload

AttentionOver = Callable[[KvStore, Sequence[Span]], Attention]
FLASH_TYPES = frozenset({torch.bfloat16, torch.float16})


def best_attention(device: torch.device, dtype: torch.dtype) -> AttentionOver:
    """Return the attention that should be the fastest with this torch on a device; it has yet to be tried."""
    if device.type == "cuda" and dtype in FLASH_TYPES and util.find_spec("torch.nn.attention.varlen") is not None:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - older versions of torch have none

        return OverSlots(varlen_attn)
    return over_spans


class OverSlots:
    """The attention that `varlen` makes of a row. Spans must stand in the order of their slots."""

    def __init__(self, varlen: Any) -> None:
        self._varlen = varlen

    def __call__(self, store: KvStore, spans: Sequence[Span]) -> Attention:
        """Return the attention for a row of these spans."""
        device = store.keys[0].device
        row = PackedRow(
            query_starts=_whole([span.first for span in spans] + [spans[-1].first + spans[-1].count], device),
            key_starts=_whole([span.slot for span in spans] + [store.places], device),
            filled=_whole([span.length for span in spans], device),
            longest=(max(span.count for span in spans), max(span.length for span in spans)),
        )
        at_once, by_spans = self.packed(store, row), over_spans(store, spans)

        def attention(query: torch.Tensor, layer: int, form: Form) -> torch.Tensor:
            return at_once(query, layer, form) if form.softcap is None else by_spans(query, layer, form)

        return attention

    def packed(self, store: KvStore, row: "PackedRow") -> Attention:
        """Return the attention for a row that is described on the device. It raises NotImplementedError for a soft cap."""

        def attention(query: torch.Tensor, layer: int, form: Form) -> torch.Tensor:
            if form.softcap is not None:
                raise NotImplementedError("attention with a soft cap")
            return self._varlen(
                query.contiguous(),
                store.keys[layer],
                store.values[layer],
                row.query_starts,
                row.key_starts,
                *row.longest,
                scale=form.scaling,
                window_size=(-1 if form.window is None else form.window - 1, 0),
                enable_gqa=True,
                seqused_k=row.filled,
            )

        return attention


@dataclass(frozen=True, slots=True)
class PackedRow:
    """Where the requests of a row stand, as numbers on the device, int32."""

    query_starts: torch.Tensor  # (requests + 1,)
    key_starts: torch.Tensor  # (requests + 1,): a slot's keys are a sequence that ends where the next slot begins
    filled: torch.Tensor  # (requests,): how much of it is
    longest: tuple[int, int]  # at most, in queries and in keys


def _whole(values: list[int], device: torch.device) -> torch.Tensor:
    return upload(values, device, torch.int32)
