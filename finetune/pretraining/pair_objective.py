"""How an encoder–decoder learns pairs: both sides padded, the loss over the target's tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from finetune.pretraining.rows import PairRow
from finetune.training.batches import Batch

NO_TARGET = -100  # what torch's cross entropy leaves out


class PairObjective:
    """Cross entropy of the target, each token predicted from the source and the target's tokens before it."""

    def __init__(self, pad: int, start: int) -> None:
        """`start` is what the decoder begins with."""
        self._pad = pad
        self._start = start

    def collate(self, examples: Sequence[PairRow]) -> Batch:
        """Return sources (B, S) with their mask, 1 = a token; what the decoder reads and what it ought to say, both (B, T)."""
        sources = _padded([row.source for row in examples], self._pad)
        lengths = torch.tensor([len(row.source) for row in examples])
        return {
            "input_ids": sources,
            "attention_mask": (torch.arange(sources.shape[1]) < lengths[:, None]).long(),
            "decoder_input_ids": _padded([(self._start, *row.target[:-1]) for row in examples], self._pad),
            "targets": _padded([row.target for row in examples], NO_TARGET),
        }

    def trained_tokens(self, batch: Batch) -> int:
        return int((batch["targets"] != NO_TARGET).sum())

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sum over the target's tokens of -log p(token), in nats."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
        logits: Any = model(**inputs, use_cache=False).logits
        return nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch["targets"].flatten(), ignore_index=NO_TARGET, reduction="sum"
        )


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
