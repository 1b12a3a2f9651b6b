"""Between host and device without waiting for what the device has still to do. On a CPU there is nothing to wait for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dialogue.engine.local.scheduler import Sequence as Running


def upload(values: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Return numbers of the host as a tensor on the device. From ordinary memory a copy would wait for all steps under way."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


class ChosenTokens:
    """The tokens that a step chooses: to be used on the device at once, and on the host when they have come."""

    def __init__(self, tokens: torch.Tensor, rows: Mapping[Running, int]) -> None:
        """`tokens` is (rows,); `rows` says whose stands where."""
        self.tokens = tokens
        self.rows = rows
        self._arrived: torch.cuda.Event | None = None
        if tokens.is_cuda:
            self._copy = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._copy.copy_(tokens, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._copy = tokens

    def read(self) -> list[int]:
        """Return the tokens, after waiting for this step and no later one. What went wrong on the device in it is raised here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [int(token) for token in self._copy]
