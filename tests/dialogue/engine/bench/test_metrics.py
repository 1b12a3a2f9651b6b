"""Figures from samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.bench.drive import hold
from dialogue.engine.bench.metrics import (
    PERCENTILES,
    ModelCost,
    Objective,
    hit_rate,
    interval,
    percentile,
    percentiles,
    roofline_share,
    run_metrics,
    spread,
)
from dialogue.engine.bench.samples import UNKNOWN
from dialogue.engine.bench.workload import Conversation
from tests.dialogue.engine.bench.pieces import BYTES, Clock, Parrot, sample

FIGURES = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


@given(FIGURES, st.sampled_from(PERCENTILES))
def test_percentiles_are_those_of_numpy(values: list[float], percent: int) -> None:
    """A percentile lies where numpy's lies, for any values."""
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), abs=1e-6)


@given(FIGURES)
def test_the_interval_lies_within_what_was_measured(values: list[float]) -> None:
    """The interval of a median is never wider than the values, and its ends are in order; five values have none."""
    found = interval(values)
    assert (found is None) == (len(values) < 6)
    if found is not None:
        low, high = found
        assert min(values) * (1 - 1e-4) <= low <= high <= max(values) * (1 + 1e-4)


@pytest.mark.parametrize("count", [6, 7, 9, 15, 30])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    """Of 2,000 series from a lopsided distribution, 95 % have its median in their interval, and not nearly all."""
    numbers = np.random.default_rng(5)
    found = [interval(numbers.exponential(size=count).tolist()) for _ in range(2000)]
    share = np.mean([low <= np.log(2) <= high for low, high in filter(None, found)])
    assert 0.94 <= share <= 0.99


def test_times_of_an_answer() -> None:
    """TTFT is the first text, TPOT what comes after it by token, ITL the gaps; nothing at all is the end."""
    one = sample(100, 1100, tokens=11, arrivals_ms=(100.0, 400.0, 1100.0))
    assert (one.ttft_ms, one.tpot_ms, one.gaps_ms) == (100, 100, (300, 700))
    silent = sample(0, 700, tokens=1, arrivals_ms=())
    assert (silent.ttft_ms, silent.tpot_ms, silent.gaps_ms) == (700, None, ())
    assert percentiles([]) is None


def test_rates_count_from_the_first_question_to_the_last_token() -> None:
    """Users beside one another share the time; goodput counts those that keep the objective."""
    samples = [sample(100, 1000, asked_ms=0), sample(900, 2000, asked_ms=0, conversation="b"), sample(100, 1000, asked_ms=1000)]
    metrics = run_metrics(samples, Objective(ttft_ms=500, tpot_ms=100))
    assert metrics["output_tokens_per_s"] == pytest.approx(33 / 2)
    assert metrics["requests_per_s"] == pytest.approx(1.5)
    assert metrics["goodput_per_s"] == pytest.approx(1.0)
    assert metrics["goodput_share"] == pytest.approx(2 / 3)
    assert metrics["prefix_hit_rate"] == pytest.approx(2 / 3)


def test_a_long_prompt_is_told_apart() -> None:
    """Latencies are those of the chats; the long prompt beside them has its own time to first token."""
    metrics = run_metrics([sample(10, 100), sample(5000, 6000, kind="long")], Objective())
    assert (metrics["ttft_ms"]["p99"], metrics["long_ttft_ms"]) == (10, 5000)


def test_turns_are_told_apart() -> None:
    """The last turn is that of the longest chat."""
    metrics = run_metrics([sample(10, 100), sample(40, 100, turn=2, prompt_tokens=90)], Objective())
    assert (metrics["ttft_first_turn_ms"], metrics["ttft_last_turn_ms"], metrics["prompt_tokens_last_turn"]) == (10, 40, 90)


def test_a_hit_rate_is_known_or_not() -> None:
    """An arm that does not say what was cached has no hit rate, rather than 0."""
    assert hit_rate([sample(1, 2, cached_tokens=UNKNOWN)]) is None
    assert hit_rate([sample(1, 2, cached_tokens=0)]) == 0


def test_the_share_of_the_roofline() -> None:
    """Weights once a step and the KV of every request in it, by the median time of a step, over what memory can."""
    one = sample(0, 1000, tokens=11, prompt_tokens=94)  # 100 ms a token, 99.5 tokens of context in the mean
    cost = ModelCost(weight_bytes=1_000_000, kv_bytes_per_token=1000)
    assert roofline_share([one], cost, 1, bytes_per_s=20e6) == pytest.approx((1_000_000 + 99_500) / 0.1 / 20e6)
    assert roofline_share([one], cost, 4, bytes_per_s=20e6) == pytest.approx((1_000_000 + 4 * 99_500) / 0.1 / 20e6)
    assert roofline_share([sample(1, 2, tokens=1)], cost, 1, 1e6) is None


def test_spread_has_five_digits() -> None:
    """Median, least and most, rounded alike."""
    assert spread([1.23456789, 3.0, 2.0]) == {"median": 2.0, "min": 1.2346, "max": 3.0}


async def test_a_sample_is_timed_from_its_question() -> None:
    """Pauses are not part of an answer; when it was asked is counted from the beginning of the run."""
    clock = Clock()
    talk = Conversation("a", (1, 2), 5, ((3,),), start_s=1.0, think_s=(4.0,))
    first, second = await hold(Parrot(clock), [talk], BYTES.encode, sleep=clock.sleep, clock=clock)
    assert (first.asked_ms, first.ttft_ms, first.total_ms, first.prompt_tokens) == (1000, 500, 2000, 2)
    assert (second.turn, second.asked_ms, second.ttft_ms, second.prompt_tokens) == (2, 7000, 500, 2 + len("fine") + 1)
    assert (second.tokens, second.cached_tokens) == (5, 3)
