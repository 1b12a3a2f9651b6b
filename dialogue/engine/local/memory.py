"""How exhausted memory shows in torch."""

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that memory, of the device or of the machine, was not enough."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
