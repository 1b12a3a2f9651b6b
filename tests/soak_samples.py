"""What a soak measures of the program, and when it calls it flat. Pure but for `take`, which looks at a process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

MB: Final = 1e6
RSS_SLOPE_MB_H: Final = 1.0  # what was promised
RSS_NOISE_MB: Final = 1.0  # a quarter of a run may lie this much above another one by how the allocator gives pages back
COUNT_NOISE: Final = 2.0  # handles, threads, tasks and connections
MOST_PAIRS_OF: Final = 400  # samples; the slope of more is taken of every n-th


@dataclass(frozen=True, slots=True)
class Sample:
    """The program at one moment."""

    at_s: float  # since the load began
    rss_mb: float
    handles: float
    threads: float
    tasks: float
    connections: float
    pending: float  # inbox: events without an answer
    unsent: float  # outbox: rows on their way
    unknown: float
    failed: float
    delivered: float


@dataclass(frozen=True, slots=True)
class Course:
    """How one value went after the warm-up."""

    name: str
    least: float
    middle: float
    most: float
    slope_per_h: float  # Theil-Sen: the median slope of all pairs, which no single peak can turn
    growth: float  # memory: median of the last quarter less that of the first; counts: the same of their lowest tenths
    is_flat: bool


Read = Callable[[Sample], float]
WATCHED: Final[Mapping[str, Read]] = {
    "memory (RSS), MB": lambda sample: sample.rss_mb,
    "file handles": lambda sample: sample.handles,
    "threads": lambda sample: sample.threads,
    "asyncio tasks": lambda sample: sample.tasks,
    "database connections": lambda sample: sample.connections,
}
MEMORY: Final = next(iter(WATCHED))


def take(process: psutil.Process, http: httpx2.Client, at_s: float) -> Sample:
    """Look at the program."""
    told = metrics(http)
    with process.oneshot():
        rss, handles, threads = process.memory_info().rss / MB, process.num_fds(), process.num_threads()
    rows = {state: told[f"kefu_outbox_rows {state}"] for state in ("reserved", "ready", "started", "unknown", "failed")}
    return Sample(
        at_s=at_s,
        rss_mb=rss,
        handles=handles,
        threads=threads,
        tasks=told["kefu_tasks"],
        connections=told["kefu_database_connections"],
        pending=told["kefu_inbox_pending"],
        unsent=rows["reserved"] + rows["ready"] + rows["started"],
        unknown=rows["unknown"],
        failed=rows["failed"],
        delivered=told.get("kefu_deliveries_total telegram sent", 0.0),
    )


def metrics(http: httpx2.Client) -> dict[str, float]:
    """Return what /metrics says, by name and the values of the labels."""
    text = http.get("/metrics").raise_for_status().text
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def course(name: str, samples: Sequence[Sample]) -> Course:
    """Return how a value went, and whether that is flat."""
    values = [WATCHED[name](sample) for sample in samples]
    quarter = max(1, len(values) // 4)
    level = median if name == MEMORY else _floor
    growth = level(values[-quarter:]) - level(values[:quarter])
    slope = slope_per_h([sample.at_s for sample in samples], values)
    return Course(name, min(values), median(values), max(values), slope, growth, _is_flat(name, slope, growth))


def _floor(values: Sequence[float]) -> float:
    """Return what a tenth of the values lies below: turns under way come and go with the load, what leaks never goes."""
    return sorted(values)[len(values) // 10]


def _is_flat(name: str, slope: float, growth: float) -> bool:
    """Memory may not rise faster than was promised, unless all that it rose is within the noise of a short run; counts may not rise."""
    if name == MEMORY:
        return slope < RSS_SLOPE_MB_H or growth < RSS_NOISE_MB
    return growth <= COUNT_NOISE


def slope_per_h(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Return the Theil-Sen slope."""
    step = max(1, len(values) // MOST_PAIRS_OF)
    points = list(zip(seconds, values, strict=True))[::step]
    slopes = [(later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in combinations(points, 2) if later[0] > earlier[0]]
    return 3600 * median(slopes) if slopes else 0.0


def warmed_up(samples: Sequence[Sample], *, share: float, least_s: float) -> list[Sample]:
    """Return the samples after the warm-up: a share of the run, but no less than some seconds."""
    end = max(least_s, share * samples[-1].at_s)
    return [sample for sample in samples if sample.at_s >= end]
