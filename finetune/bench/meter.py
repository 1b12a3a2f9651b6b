"""What a training is measured by, the same for every arm: tokens where a batch is made, time and loss where a step is logged."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from finetune.bench.work import Step


class Size(NamedTuple):
    """Of one batch."""

    trained: int
    tokens: int
    places: int


class Meter:
    """Takes the sizes of batches and the ends of steps. Batches are made ahead of their steps, so both are joined at the end."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()
        self._sizes: list[Size] = []
        self._ends: list[tuple[float, float]] = []

    def batch(self, size: Size) -> None:
        """One more batch is made."""
        self._sizes.append(size)

    def step(self, loss: float) -> None:
        """One more step is over."""
        now = self._clock()
        self._ends.append((now - self._last, loss))
        self._last = now

    def steps(self, batches_per_step: int) -> tuple[Step, ...]:
        """Return all steps. The last one may have fewer batches."""
        groups = [self._sizes[start : start + batches_per_step] for start in range(0, len(self._sizes), batches_per_step)]
        return tuple(_step(end, group) for end, group in zip(self._ends, groups, strict=True))


def _step(end: tuple[float, float], sizes: Sequence[Size]) -> Step:
    trained, tokens, places = (sum(column) for column in zip(*sizes, strict=True))
    return Step(seconds=end[0], loss=end[1], trained=trained, tokens=tokens, places=places)


class Counted:
    """A collator that tells the meter what it makes."""

    def __init__(self, collate: Callable[[Any], Any], measure: Callable[[Any, Any], Size], meter: Meter) -> None:
        self._collate = collate
        self._measure = measure
        self._meter = meter

    def __call__(self, examples: Any) -> Any:
        """Return the batch of some examples."""
        batch = self._collate(examples)
        self._meter.batch(self._measure(examples, batch))
        return batch


def peak_memory_mib() -> float:
    """Return the most memory so far, in MiB: what torch allocated on a CUDA device, else what this process held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` would begin with what the parent held when it started us
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
