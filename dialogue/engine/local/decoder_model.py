"""The torch side of decoders: one step, from the tokens of several requests to the logits of those that go on."""

from itertools import accumulate
from typing import Any

import torch

from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.lora_layers import LoraLayers
from dialogue.engine.local.scheduler import Chunk, Step
from dialogue.engine.local.slot_attention import NAME, Rows, register
from dialogue.engine.local.span_attention import Span
from dialogue.engine.local.varlen_attention import AttentionOver, best_attention


class DecoderModel:
    """A loaded model, and the keys and values of all its requests. Belongs to one thread."""

    def __init__(self, model: Any, store: KvStore, attention_over: AttentionOver | None = None) -> None:
        """Let `model` attend over the slots of `store` from now on, in the best way for its device unless another one is given."""
        register()
        model.set_attn_implementation(NAME)
        self.model = model
        self.device: torch.device = model.device
        self.store = store
        self.lora = LoraLayers(model)
        self.attention_over = attention_over or best_attention(model.device, model.dtype)

    @torch.inference_mode()
    def copy(self, step: Step) -> None:
        """Do the copies of a step, once and before it is computed. Needs no memory, so it does not fail where computing does."""
        for copy in step.copies:
            self.store.copy(copy)

    @torch.inference_mode()
    def compute(self, step: Step) -> torch.Tensor:
        """Compute a step. Returns the logits after each chunk that samples, (chunks that sample, vocabulary), float32."""
        ends = list(accumulate(chunk.count for chunk in step.chunks))
        sampled = [end - 1 for chunk, end in zip(step.chunks, ends, strict=True) if chunk.samples]
        self.lora.choose([chunk.sequence.adapter for chunk in step.chunks], [chunk.count for chunk in step.chunks])
        spans = [_span(chunk, end) for chunk, end in zip(step.chunks, ends, strict=True)]
        output = self.model(
            input_ids=self._row(token for chunk in step.chunks for token in chunk.tokens),
            position_ids=self._row(position for chunk in step.chunks for position in _positions(chunk)),
            logits_to_keep=torch.tensor(sampled, dtype=torch.long, device=self.device),
            use_cache=False,
            rows=Rows(self.store, self._places(step), self.attention_over(self.store, spans)),
        )
        return output.logits[0].float()

    def _places(self, step: Step) -> torch.Tensor:
        return self._row(chunk.slot.start + position for chunk in step.chunks for position in _positions(chunk))[0]

    def _row(self, values: Any) -> torch.Tensor:
        return torch.tensor([list(values)], device=self.device)


def _positions(chunk: Chunk) -> range:
    return range(chunk.start, chunk.start + chunk.count)


def _span(chunk: Chunk, end: int) -> Span:
    return Span(end - chunk.count, chunk.count, chunk.slot.start, chunk.start + chunk.count)
