"""From samples to figures, in the words of the field (`vllm bench serve`). Pure.

TTFT    time to first token               TPOT   time per output token after the first
ITL     time between two arrivals of text  E2E    time to the last token
goodput requests a second that keep the service level objective
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dialogue.engine.bench.samples import UNKNOWN, Sample

PERCENTILES: Final = (50, 95, 99)
ONE_SIDE: Final = 0.025  # of cases in which the median lies beyond one end of its interval


@dataclass(frozen=True, slots=True)
class Objective:
    """The service level objective: what a user is content with."""

    ttft_ms: float = 2000.0
    tpot_ms: float = 150.0

    def kept(self, sample: Sample) -> bool:
        """Whether an answer keeps it."""
        return sample.ttft_ms <= self.ttft_ms and (sample.tpot_ms or 0.0) <= self.tpot_ms


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a decoding step must at least read."""

    weight_bytes: int  # of all matrices that a token meets
    kv_bytes_per_token: int


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, on the line between its neighbours, as numpy does."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95 and p99; None where there is nothing."""
    return {f"p{percent}": percentile(values, percent) for percent in PERCENTILES} if values else None


def run_metrics(samples: Sequence[Sample], objective: Objective) -> dict[str, Any]:
    """Return the figures of one run. Latencies are those of chats; a long prompt beside them has its own TTFT."""
    chats = [sample for sample in samples if sample.kind == "chat"]
    long = [sample.ttft_ms for sample in samples if sample.kind != "chat"]
    seconds = (max(sample.ended_ms for sample in samples) - min(sample.asked_ms for sample in samples)) / 1000
    kept = sum(objective.kept(sample) for sample in chats)
    last = max(sample.turn for sample in chats)
    return {
        "ttft_ms": percentiles([sample.ttft_ms for sample in chats]),
        "tpot_ms": percentiles([sample.tpot_ms for sample in chats if sample.tpot_ms is not None]),
        "itl_ms": percentiles([gap for sample in chats for gap in sample.gaps_ms]),
        "e2e_ms": percentiles([sample.total_ms for sample in chats]),
        "output_tokens_per_s": sum(sample.tokens for sample in samples) / seconds,
        "requests_per_s": len(samples) / seconds,
        "goodput_per_s": kept / seconds,
        "goodput_share": kept / len(chats),
        "prefix_hit_rate": hit_rate(samples),
        "ttft_first_turn_ms": turn_ttft(chats, 1),
        "ttft_last_turn_ms": turn_ttft(chats, last),
        "prompt_tokens_last_turn": statistics.median(sample.prompt_tokens for sample in chats if sample.turn == last),
        "long_ttft_ms": statistics.median(long) if long else None,
    }


def turn_ttft(samples: Sequence[Sample], turn: int) -> float:
    """Return the median time to first token at a turn."""
    return statistics.median(sample.ttft_ms for sample in samples if sample.turn == turn)


def hit_rate(samples: Sequence[Sample]) -> float | None:
    """Return the share of all prompt tokens that were not computed again; None where the arm does not say."""
    if any(sample.cached_tokens == UNKNOWN for sample in samples):
        return None
    return sum(sample.cached_tokens for sample in samples) / max(1, sum(sample.prompt_tokens for sample in samples))


def roofline_share(samples: Sequence[Sample], cost: ModelCost, running: int, bytes_per_s: float) -> float | None:
    """Return the bytes that decoding had to move a second, over those that the machine can.

    A step reads the weights once and the KV of every request in it, of which `running` are decoded together; it takes the median
    TPOT. None where no answer has two tokens.
    """
    times = [sample.tpot_ms for sample in samples if sample.tpot_ms]
    if not times:
        return None
    context = statistics.fmean(sample.prompt_tokens + sample.tokens / 2 for sample in samples)
    moved = cost.weight_bytes + running * context * cost.kv_bytes_per_token
    return moved / (statistics.median(times) / 1000) / bytes_per_s


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most, with five significant digits."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: rounded(value) for name, value in named.items()}


def rounded(value: float) -> float:
    """Return a figure with five significant digits."""
    return float(f"{value:.5g}")


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return an interval that holds the median in 95 % of all cases at least, whatever the distribution; None = too few values.

    Its ends are values themselves: those that so many others lie beyond as a fair coin shows heads in 2.5 % of all cases at most (the
    inverse of the sign test; Conover, Practical Nonparametric Statistics, section 3.2). Six values are the fewest.
    """
    ordered, count = sorted(values), len(values)
    beyond = -1  # values on each side of the interval
    while sum(math.comb(count, heads) for heads in range(beyond + 2)) <= ONE_SIDE * 2**count:
        beyond += 1
    return None if beyond < 0 else (rounded(ordered[beyond]), rounded(ordered[count - 1 - beyond]))
