"""Packs as tensors.

A batch names where the loss looks (`trained_places`) and what ought to be predicted there (`targets`), so that nothing is
projected onto the vocabulary for tokens that nobody learns.
"""

from collections.abc import Sequence

import torch

from finetune.training.packing import Pack

Batch = dict[str, torch.Tensor]


def collate(packs: Sequence[Pack]) -> Batch:
    """Return the batch of some packs, B in all, padded to the longest, L tokens.

    input_ids       int64 (B, L)
    position_ids    int64 (B, L)  begins at 0 for each row and for the padding, which is a row of its own
    trained_places  int64 (N,)    places in the flattened batch, 0 … B·L - 1
    targets         int64 (N,)    the token to be predicted at each of them
    """
    length = max(pack.length for pack in packs)
    trained = [(number * length + place, token) for number, pack in enumerate(packs) for place, token in pack.trained]
    places, targets = zip(*trained, strict=True) if trained else ((), ())
    return {
        "input_ids": torch.tensor([pack.ids + [0] * (length - pack.length) for pack in packs]),
        "position_ids": torch.tensor([pack.position_ids + list(range(length - pack.length)) for pack in packs]),
        "trained_places": torch.tensor(places, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
    }
