"""What training an encoder–decoder minimises: cross entropy of the reply's tokens, its end token included."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from finetune.training.batches import Batch
from finetune.training.seq2seq_examples import Bucket, Pair

IGNORED: Final = -100  # a place whose prediction nobody learns; torch's own number for it


class Seq2SeqObjective:
    """Implements `finetune.training.objective.Objective` for pairs; an example is a bucket of them."""

    def collate(self, examples: Sequence[Bucket]) -> Batch:
        """Return the batch of all pairs in some buckets, B in all, padded to the longest source S and reply T.

        input_ids, attention_mask    int64 (B, S)  1 = a token, 0 = padding
        decoder_input_ids            int64 (B, T)  the beginning, then the reply without its last token
        labels                       int64 (B, T)  the token to be predicted at each place, IGNORED for beginning and padding
        """
        pairs = [pair for bucket in examples for pair in bucket]
        return {
            "input_ids": _padded([pair.source for pair in pairs], 0),
            "attention_mask": _padded([(1,) * len(pair.source) for pair in pairs], 0),
            "decoder_input_ids": _padded([(*pair.beginning, *pair.reply[:-1]) for pair in pairs], 0),
            "labels": _padded([_labels(pair) for pair in pairs], IGNORED),
        }

    def trained_tokens(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the sum over the trained tokens of -log p(token), in nats, float32 ()."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits  # (B, T, vocabulary)
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum")


def _labels(pair: Pair) -> tuple[int, ...]:
    """Return what is predicted at each place of the decoder: after the beginning's last token, the first of the reply."""
    return (*(IGNORED for _ in pair.beginning[1:]), *pair.reply)


def _padded(rows: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows])
