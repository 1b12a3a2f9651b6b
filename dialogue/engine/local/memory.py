"""How exhausted memory shows in torch."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that memory, of the device or of the machine, was not enough."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)


def unless_out_of_memory(make: Callable[[], T]) -> T | None:
    """Return what `make` returns; None = there was not memory enough for it."""
    try:
        return make()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
