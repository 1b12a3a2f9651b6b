"""What a run minimises: how examples become a batch, and the loss of a batch.

`DecoderObjective` is the causal one. Models of another kind bring their own: the trainer knows no more than this port.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from finetune.training.batches import Batch, collate
from finetune.training.packing import Pack


class Objective(Protocol):
    """How one kind of model is trained. Losses are sums, so that every token counts the same, whatever batch it is in."""

    def collate(self, examples: Sequence[Any]) -> Batch:
        """Return the tensors of some examples."""
        ...

    def trained_tokens(self, batch: Batch) -> int:
        """Return how many tokens the loss of a batch counts."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sum over the trained tokens of -log p(token), in nats, float32 ()."""
        ...


class DecoderObjective:
    """Cross entropy of the next token at the trained places of packed rows.

    The body runs over whole packs; only the hidden states of trained places reach the output layer. That is done by a hook on
    that layer, because the model has to be called as a whole: wrappers for several devices see nothing else.
    """

    def collate(self, examples: Sequence[Pack]) -> Batch:
        return collate(examples)

    def trained_tokens(self, batch: Batch) -> int:
        return batch["targets"].numel()

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        logits = trained_logits(model, batch)
        return nn.functional.cross_entropy(logits.float(), batch["targets"], reduction="sum")


def trained_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the logits (N, vocabulary) at the batch's trained places.

    No attention mask and no cache are given: transformers then reads from `position_ids` where a row begins, and lets no row
    see another (`find_packed_sequence_indices`).
    """
    with _only(batch["trained_places"], output_layer(model)):
        return model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits


def output_layer(model: nn.Module) -> nn.Module:
    """Return the layer that makes logits of hidden states, whatever wraps the model."""
    inner: Any = model
    while not hasattr(inner, "get_output_embeddings"):
        inner = inner.module  # DistributedDataParallel and its kin
    return inner.get_output_embeddings()


@contextmanager
def _only(places: torch.Tensor, layer: nn.Module) -> Iterator[None]:
    """Let `layer` see (N, width) instead of (B, L, width)."""

    def gather(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, places),)

    handle = layer.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
