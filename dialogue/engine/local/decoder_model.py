"""The torch side of decoders: one step, from the tokens of several requests to the logits of those that go on."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from dialogue.engine.local.decode_graphs import DecodeGraphs, Record, record_on_cuda
from dialogue.engine.local.kv_store import KvStore
from dialogue.engine.local.lora_layers import LoraLayers, LoraWeights
from dialogue.engine.local.matrix import quicken_head
from dialogue.engine.local.scheduler import UNREAD, Chunk, Step
from dialogue.engine.local.slot_attention import NAME, Rows, register
from dialogue.engine.local.span_attention import Span
from dialogue.engine.local.uploads import ChosenTokens, upload
from dialogue.engine.local.varlen_attention import AttentionOver, OverSlots, best_attention


class DecoderModel:
    """A loaded model, and the keys and values of all its requests. Belongs to one thread."""

    def __init__(self, model: Any, store: KvStore, attention_over: AttentionOver | None = None, *, graphs: bool = True) -> None:
        """Let `model` attend over the slots of `store` from now on, in the best way for its device unless another one is given.

        `graphs` lets a GPU replay recorded steps where the attention allows it.
        """
        register()
        model.set_attn_implementation(NAME)
        self.model = model
        self.device: torch.device = model.device
        self.store = store
        self.lora = LoraLayers(model)
        quicken_head(model)
        self.attention_over = attention_over or best_attention(model.device, model.dtype)
        self.graphs: DecodeGraphs | None = None
        if graphs and self.device.type == "cuda":
            self.use_graphs(record_on_cuda)

    def use_graphs(self, record: Record) -> None:
        """Compute steps in which everybody gets one token by recordings that `record` makes, where the attention allows it."""
        if isinstance(self.attention_over, OverSlots):
            self.graphs = DecodeGraphs(self.model, self.store, self.lora, self.attention_over, record)

    def install(self, weights: LoraWeights) -> None:
        """Compute with these adapters from the next step on."""
        self.lora.install(weights)
        if self.graphs is not None:
            self.graphs.forget_adapters()

    @torch.inference_mode()
    def copy(self, step: Step) -> None:
        """Do the copies of a step, once and before it is computed. Needs no memory, so it does not fail where computing does."""
        for copy in step.copies:
            self.store.copy(copy)

    @torch.inference_mode()
    def compute(self, step: Step, before: ChosenTokens | None = None) -> torch.Tensor:
        """Compute a step. Returns the logits after each chunk that samples, (chunks that sample, vocabulary), float32.

        `before` are the tokens that the last step chose, where they have not been read. The logits are valid until the next step.
        """
        chunks = step.chunks
        self.lora.choose([chunk.sequence.adapter for chunk in chunks], [chunk.count for chunk in chunks])
        tokens = self._tokens(chunks, before)
        logits = self.graphs.compute(chunks, tokens) if self.graphs is not None else None
        return self._computed(chunks, tokens) if logits is None else logits

    def _computed(self, chunks: Sequence[Chunk], tokens: torch.Tensor) -> torch.Tensor:
        ends = list(accumulate(chunk.count for chunk in chunks))
        sampled = [end - 1 for chunk, end in zip(chunks, ends, strict=True) if chunk.samples]
        spans = [_span(chunk, end) for chunk, end in zip(chunks, ends, strict=True)]
        positions = [position for chunk in chunks for position in _positions(chunk)]
        places = [chunk.slot.start + position for chunk in chunks for position in _positions(chunk)]
        output = self.model(
            input_ids=tokens,
            position_ids=upload([positions], self.device),
            logits_to_keep=upload(sampled, self.device),
            use_cache=False,
            rows=Rows(self.store, upload(places, self.device), self.attention_over(self.store, spans)),
        )
        return output.logits[0].float()

    def _tokens(self, chunks: Sequence[Chunk], before: ChosenTokens | None) -> torch.Tensor:
        """Return the row of tokens, (1, tokens); those that the host does not know yet come from `before`."""
        row = [token for chunk in chunks for token in chunk.tokens]
        tokens = upload([row], self.device)
        unread = [place for place, token in enumerate(row) if token == UNREAD]
        if unread and before is not None:
            sources = [before.rows[chunk.sequence] for chunk in chunks if chunk.tokens[-1] == UNREAD]
            tokens[0, upload(unread, self.device)] = before.tokens[upload(sources, self.device)]
        return tokens


def _positions(chunk: Chunk) -> range:
    return range(chunk.start, chunk.start + chunk.count)


def _span(chunk: Chunk, end: int) -> Span:
    return Span(end - chunk.count, chunk.count, chunk.slot.start, chunk.start + chunk.count)
