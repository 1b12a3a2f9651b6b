"""The judgement of a soak, on made-up samples: it can fail, and its plot is a picture."""

from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak_chart import PANELS, TICKS, draw, nice_step
from tests.soak_report import Ledger, Result, report
from tests.soak_samples import MEMORY, WATCHED, Sample, course, slope_per_h, warmed_up

QUIET = Sample(0, 120.0, 20, 6, 25, 4, pending=1, unsent=0, unknown=0, failed=0, delivered=0)


def run_of(change: Callable[[float], dict[str, float]], *, minutes: int = 30) -> list[Sample]:
    """Return a sample every ten seconds; `change` gives the fields at a time in seconds."""
    return [replace(QUIET, at_s=10.0 * number, **change(10.0 * number)) for number in range(6 * minutes)]


def flat_names(samples: list[Sample]) -> set[str]:
    return {name for name in WATCHED if course(name, samples).is_flat}


def test_a_quiet_run_is_flat() -> None:
    """Values that go up and down around the same level are flat, a single peak included."""
    samples = run_of(lambda at_s: {"rss_mb": 120 + (at_s % 70) / 50, "tasks": 25 + at_s % 3, "handles": 90 if at_s == 600 else 20})
    assert flat_names(samples) == set(WATCHED)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("rss_mb", MEMORY),
        ("handles", "file handles"),
        ("threads", "threads"),
        ("tasks", "asyncio tasks"),
        ("connections", "database connections"),
    ],
)
def test_a_leak_is_noticed(field: str, name: str) -> None:
    """What grows by eight an hour is not flat, and nothing else is blamed."""
    start = getattr(QUIET, field)
    samples = run_of(lambda at_s: {field: start + 8 * at_s / 3600})
    assert set(WATCHED) - flat_names(samples) == {name}


def test_more_turns_under_way_are_no_leak() -> None:
    """Tasks that come more often late in a run and go again are flat; they are a leak only when the fewest there are become more."""
    samples = run_of(lambda at_s: {"tasks": 25 + (40 if at_s % 50 and at_s > 1200 else 0)})
    assert "asyncio tasks" in flat_names(samples)


def test_a_long_run_is_held_to_the_promise() -> None:
    """Over eight hours, one and a half MB/h is too much, half an MB/h is not."""
    fast, slow = (run_of(lambda at_s, by=by: {"rss_mb": 120 + by * at_s / 3600}, minutes=480) for by in (1.5, 0.5))
    assert not course(MEMORY, fast).is_flat
    assert course(MEMORY, slow).is_flat


@given(st.floats(-50, 50), st.floats(0, 500))
def test_the_slope_of_a_line_is_its_slope(by: float, level: float) -> None:
    """The fit finds the slope of what is a line."""
    seconds = [10.0 * number for number in range(30)]
    assert slope_per_h(seconds, [level + by * at_s / 3600 for at_s in seconds]) == pytest.approx(by, abs=1e-6)


def test_the_warm_up_is_left_out() -> None:
    """A share of the run, and no less than some seconds."""
    samples = run_of(lambda _at_s: {})
    assert warmed_up(samples, share=0.2, least_s=90)[0].at_s == pytest.approx(360, abs=10)
    assert warmed_up(samples, share=0.01, least_s=90)[0].at_s == 90


@given(st.floats(1e-3, 1e6))
def test_axes_reach_what_they_show(most: float) -> None:
    """The grid ends at or above the highest value, and is not mostly empty."""
    assert most <= nice_step(most, TICKS) * TICKS * (1 + 1e-6) <= 3 * most


def test_the_plot_is_a_picture_for_light_and_dark() -> None:
    """Well-formed, a title and lines for each chart, and colours for both grounds."""
    picture = draw(run_of(lambda at_s: {"rss_mb": 120 + at_s % 3}), title="a & b", warm_up_s=60)
    root = ET.fromstring(picture)
    lines = root.findall("{*}polyline")
    assert len(lines) == sum(len(panel.lines) for panel in PANELS)
    assert {text.text for text in root.findall("{*}text")} >= {panel.title for panel in PANELS}
    assert "prefers-color-scheme: dark" in picture


def test_the_report_says_what_failed() -> None:
    """The verdict names what was not flat and what was lost."""
    samples = run_of(lambda at_s: {"threads": 6 + at_s / 100})
    result = Result(30, 50, 40.0, 20.0, samples, 360.0, [course(name, samples) for name in WATCHED], Ledger(1000, 2, 1, 0))
    assert "not flat: threads; 1000 messages: 2 lost, 1 answered twice" in report(result)
    assert not result.is_flat
    assert not result.ledger.is_clean
