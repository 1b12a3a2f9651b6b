"""What a CUDA device can do at most."""

from typing import Any

import torch


def device_bandwidth(device: Any, size: int = 1 << 30, times: int = 20) -> float:
    """Return the bytes that a copy on a CUDA device reads and writes a second."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        target.copy_(source)
    end.record()
    torch.cuda.synchronize(device)
    return 2 * size * times / (begin.elapsed_time(end) / 1000)
