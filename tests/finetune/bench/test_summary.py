"""What the bench makes of its measurements."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.bench import curves
from finetune.bench.plot import PLOT_NAME, draw
from finetune.bench.summary import mean_curve, summary, table
from finetune.bench.work import ARMS, OURS, TRL_DEFAULT, TRL_TUNED, Step
from tests.finetune.bench.measured import measured

POINTS = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 10)), min_size=1, max_size=20)


def to_curve(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    return curves.curve([Step(seconds=1, loss=loss, trained=trained, tokens=trained, places=trained) for trained, loss in points])


@given(POINTS, POINTS)
def test_a_distance_is_one(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> None:
    """The distance of two curves is 0 for a curve and itself, the same both ways, and never negative."""
    first, second = to_curve(one), to_curve(other)
    assert curves.distance(first, first) == pytest.approx(0)
    assert curves.distance(first, second) == pytest.approx(curves.distance(second, first))
    assert curves.distance(first, second) >= 0


@given(POINTS, st.floats(-3, 3))
def test_a_shifted_curve_is_so_far_away(points: list[tuple[int, float]], shift: float) -> None:
    """A curve that lies everywhere higher by some nats is that many nats away."""
    original = to_curve(points)
    assert curves.distance(original, [(place, loss + shift) for place, loss in original]) == pytest.approx(abs(shift), abs=1e-6)


def test_curves_are_compared_at_equal_trained_tokens() -> None:
    """The same fall of the loss in steps of another size is no distance."""
    fine = [(float(place), 5 - place / 100) for place in range(10, 200, 10)]
    coarse = [(float(place), 5 - place / 100) for place in range(10, 200, 30)]
    assert curves.distance(fine, coarse) == pytest.approx(0, abs=1e-9)
    assert curves.mean([fine, coarse])[0] == fine[0]


def test_times_leave_the_first_step_out() -> None:
    """Tokens a second come from all steps but the first, in which memory is taken: 20 trained and 80 tokens in 4 seconds."""
    arm = summary({name: [measured(name)] for name in ARMS})["arms"][OURS]
    assert (arm["trained_tokens_per_s"]["median"], arm["tokens_per_s"]["median"], arm["step_p50_s"]["median"]) == (5, 20, 2)
    assert arm["fill_rate"]["median"] == 0.8
    assert arm["matrix_share"]["median"] == 2.5  # 10 operations a token, 20 tokens a second, of 80 a second


def test_rounds_are_compared_side_by_side() -> None:
    """Ratios are those of rounds that stood beside one another, so that a machine that slows down between them tells nothing."""
    quick, slow = (measured(seconds=(1.0, each)) for each in (1.0, 2.0))
    default = [measured(TRL_DEFAULT, seconds=(1.0, each), loss=2.5) for each in (2.0, 4.0)]
    result = summary({TRL_DEFAULT: default, TRL_TUNED: [quick, slow], OURS: [quick, slow]})
    assert result["ours_over"][TRL_DEFAULT] == {"median": 2, "min": 2, "max": 2}
    assert result["ours_over"][TRL_TUNED]["median"] == 1
    assert result["loss_distance"][TRL_DEFAULT] == {"curve": 0.5, "held_out": -0.5}
    assert result["same_trained_tokens"]


def test_other_tokens_are_noticed() -> None:
    """An arm that trained other tokens than the others is not called equal."""
    rounds = {name: [measured(name)] for name in ARMS} | {OURS: [measured(seconds=(1.0, 1.0))]}
    assert not summary(rounds)["same_trained_tokens"]


def test_people_see_every_figure() -> None:
    """The table has a column for each arm and a line for each figure, and says how the losses compare."""
    lines = table(summary({name: [measured(name)] * 2 for name in ARMS}))
    assert all(name in lines[0] for name in ARMS)
    assert any(line.startswith("trained tokens/s") for line in lines)
    assert any("nats apart" in line for line in lines)


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    """The picture is a PNG file."""
    path = tmp_path / PLOT_NAME
    draw({name: mean_curve([measured(name)]) for name in ARMS}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
