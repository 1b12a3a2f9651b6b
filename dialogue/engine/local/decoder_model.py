"""The torch side of decoders: one step, from the tokens of several requests to the logits of those that go on."""

from itertools import accumulate
from typing import Any

import torch

from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.lora_layers import LoraLayers
from dialogue.engine.local.scheduler import Chunk, Step
from dialogue.engine.local.slot_attention import NAME, Rows, Span, register


class DecoderModel:
    """A loaded model, and the keys and values of all its requests. Belongs to one thread."""

    def __init__(self, model: Any, store: KvStore) -> None:
        """Let `model` attend over the slots of `store` from now on."""
        register()
        model.set_attn_implementation(NAME)
        self.model = model
        self.device: torch.device = model.device
        self.store = store
        self.lora = LoraLayers(model)

    @torch.inference_mode()
    def compute(self, step: Step) -> torch.Tensor:
        """Compute a step. Returns the logits after each chunk that samples, (chunks that sample, vocabulary), float32."""
        for copy in step.copies:
            self.store.copy(copy)
        ends = list(accumulate(chunk.count for chunk in step.chunks))
        sampled = [end - 1 for chunk, end in zip(step.chunks, ends, strict=True) if chunk.samples]
        self.lora.choose([chunk.sequence.adapter for chunk in step.chunks], [chunk.count for chunk in step.chunks])
        output = self.model(
            input_ids=self._row(token for chunk in step.chunks for token in chunk.tokens),
            position_ids=self._row(position for chunk in step.chunks for position in _positions(chunk)),
            logits_to_keep=torch.tensor(sampled, dtype=torch.long, device=self.device),
            use_cache=False,
            rows=Rows(self.store, [_span(chunk, end) for chunk, end in zip(step.chunks, ends, strict=True)], self._places(step)),
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
