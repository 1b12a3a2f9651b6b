"""Bootstrap intervals: right on average, paired, by group, and the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluation.bootstrap import Counts, difference, spread
from tests.sizes import record_proof, size


def means(values: "np.typing.ArrayLike") -> Counts:
    """Return counts whose score is a plain mean."""
    plain = tuple(float(value) for value in np.asarray(values))
    return Counts(plain, (1.0,) * len(plain))


def each_alone(counts: Counts) -> list[str]:
    return [str(number) for number in range(len(counts.numerators))]


def test_the_score_is_a_ratio_of_sums() -> None:
    """Loss per token weighs long rows more than short ones; nothing over nothing is no score."""
    assert Counts((10.0, 2.0), (5.0, 1.0)).score == pytest.approx(2.0)
    assert Counts((6.0, 1.0), (2.0, 2.0)).score == pytest.approx(7 / 4)
    assert Counts((0.0,), (0.0,)).score is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of many experiments with a known difference about 95 % have it inside their interval."""
    experiments = size("bootstrap_coverage", small=150, proof=2000)
    generator = np.random.default_rng(3)
    held = 0
    for seed in range(experiments):
        ability = generator.normal(0.0, 1.0, 60)  # what makes pairs hang together
        ours, theirs = (means(ability + generator.normal(mean, 0.5, 60)) for mean in (0.3, 0.0))
        found = difference(ours, theirs, each_alone(ours), resamples=400, seed=seed)
        assert found is not None
        held += found.low <= 0.3 <= found.high
    assert 0.88 <= held / experiments <= 0.985
    record_proof("bootstrap intervals hold the true difference", seed=3, size=experiments, result=f"{held / experiments:.1%} (95 % wanted)")


def test_pairs_make_the_interval_narrow() -> None:
    """Two models that fail on the same samples are told apart although each alone is uncertain."""
    generator = np.random.default_rng(5)
    ability = generator.normal(0.0, 3.0, 80)
    ours, theirs = means(ability + 0.2 + generator.normal(0, 0.1, 80)), means(ability)
    found, alone = difference(ours, theirs, each_alone(ours), resamples=500, seed=1), spread(ours, each_alone(ours), resamples=500, seed=1)
    assert found is not None
    assert alone is not None
    assert found.excludes_zero
    assert found.high - found.low < (alone.high - alone.low) / 5


def test_samples_of_one_group_count_once() -> None:
    """A sample that stands there ten times over is no more evidence than once."""
    values = np.random.default_rng(2).normal(0.1, 1.0, 12)
    once, repeated = means(values), means(np.repeat(values, 10))
    groups = [str(number) for number in range(12) for _ in range(10)]
    nothing, nothings = means(np.zeros(12)), means(np.zeros(120))
    lonely = difference(once, nothing, each_alone(once), resamples=400, seed=1)
    grouped = difference(repeated, nothings, groups, resamples=400, seed=1)
    assert lonely is not None
    assert grouped is not None
    assert (grouped.low, grouped.high) == pytest.approx((lonely.low, lonely.high))
    assert grouped.units == 12


def test_equal_arguments_give_equal_intervals() -> None:
    """The seed decides, nothing else; another seed gives another interval."""
    ours, theirs = means(range(30)), means(range(1, 31))
    groups = [str(number // 2) for number in range(30)]
    first = spread(ours, groups, resamples=300, seed=9)
    assert first == spread(ours, groups, resamples=300, seed=9) != spread(ours, groups, resamples=300, seed=10)
    assert difference(ours, theirs, groups, resamples=300, seed=9) is not None


def test_nothing_to_count_has_no_interval() -> None:
    """Where no sample counts there is no difference to speak of."""
    nothing = Counts((0.0, 0.0), (0.0, 0.0))
    assert difference(nothing, means([1, 2]), ["a", "b"], resamples=100, seed=0) is None
    assert spread(nothing, ["a", "b"], resamples=100, seed=0) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=20), st.integers(0, 1000))
def test_the_difference_turns_around(rows: list[tuple[float, float, int]], seed: int) -> None:
    """Ours against theirs is the mirror of theirs against ours, and the value lies where the scores say."""
    ours, theirs = (Counts(tuple(row[side] for row in rows), tuple(float(row[2]) for row in rows)) for side in (0, 1))
    groups = each_alone(ours)
    there = difference(ours, theirs, groups, resamples=100, seed=seed)
    back = difference(theirs, ours, groups, resamples=100, seed=seed)
    assert there is not None
    assert back is not None
    assert there.value == pytest.approx(-back.value)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)
