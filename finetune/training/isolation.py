"""Whether a model lets packed rows see one another: tried on the model itself, because a silent leak would spoil what is learned."""

from collections.abc import Sequence
from typing import Any

import torch

from finetune.rendering import Row
from finetune.training.batches import collate
from finetune.training.objective import trained_logits
from finetune.training.packing import Pack

_TOKENS = 48  # of a row; enough to see a leak, little to compute
# Largest difference of logits, as a share of their largest: rounding of another order of sums, not another context.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


def keeps_apart(model: Any, rows: Sequence[Row]) -> bool:
    """Whether the second row's logits are the same behind the first row as alone. Fewer than two rows are always apart."""
    if len(rows) < 2:
        return True
    first, second = (_shortened(row) for row in rows[:2])
    together, alone = _logits(model, Pack((first, second))), _logits(model, Pack((second,)))
    difference = (together[-len(alone) :] - alone).abs().max()
    return bool(difference <= _TOLERANCE.get(model.dtype, 1e-3) * alone.abs().max())


def _shortened(row: Row) -> Row:
    ids = row.ids[:_TOKENS]
    return Row(ids, (False, *(True for _ in ids[1:])))


def _logits(model: Any, pack: Pack) -> torch.Tensor:
    was_training = model.training
    batch = {name: tensor.to(model.device) for name, tensor in collate([pack]).items()}
    with torch.no_grad():
        logits = trained_logits(model.eval(), batch).float()
    model.train(was_training)
    return logits
