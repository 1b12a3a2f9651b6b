"""Who may take over: tables of gains, and what they come to."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluation.bootstrap import Interval
from finetune.evaluation.suites import BY_NAME, SUITES
from finetune.evaluation.verdict import LEAST_UNITS, Comparison, compare, describe, encode_verdict, judge, margin_of
from tests.finetune.evaluation.scene import provenance

LOSS, PLAIN, SPEED = BY_NAME["support_loss"], BY_NAME["plain_chat"], BY_NAME["latency"]


def main_loss(low: float, high: float, units: int = 40, against: str = "base") -> Comparison:
    """Return a comparison of the main suite whose gain lies between `low` and `high`."""
    return Comparison("support_loss", "loss", against, 1.0, 1.0, (low + high) / 2, low, high, units, 0.02, main=True)


def plain(gain: float, against: str = "base") -> Comparison:
    """Return a comparison of another suite."""
    return Comparison("plain_chat", "answered", against, 0.9, 0.9, gain, gain - 0.1, gain + 0.1, 50, 0.02, main=False)


@pytest.mark.parametrize(
    ("comparisons", "passed", "word"),
    [
        ([main_loss(0.01, 0.09), plain(0.0)], True, "is better than the base"),
        ([main_loss(-0.01, 0.09), plain(0.0)], False, "does not exclude zero"),
        ([main_loss(0.0, 0.09), plain(0.0)], False, "does not exclude zero"),
        ([main_loss(-0.09, -0.01)], False, "must get better"),
        ([main_loss(0.01, 0.09), plain(-0.02)], True, "is better"),
        ([main_loss(0.01, 0.09), plain(-0.0201)], False, "Plain questions (questions not refused) is worse than the base: -2.0 points"),
        ([main_loss(0.01, 0.09, units=LEAST_UNITS - 1)], False, "too few to tell"),
        ([main_loss(0.01, 0.09, units=LEAST_UNITS)], True, "is better"),
        ([plain(0.2)], False, "could not be compared"),
        ([], False, "could not be compared"),
        ([main_loss(0.01, 0.09), replace(plain(-0.9), margin=None)], True, "is better"),
    ],
)
def test_the_verdict_follows_from_the_gains(comparisons: list[Comparison], passed: bool, word: str) -> None:
    """A main suite needs an interval above zero from enough samples, every other one a loss within its margin; the reason is said."""
    verdict = judge(comparisons, [], ["support_loss"], [], provenance())
    assert verdict.passed is passed
    assert any(word in reason for reason in verdict.reasons)


def test_only_the_reference_decides() -> None:
    """With an incumbent, gains against the base are told and decide nothing."""
    comparisons = [main_loss(0.01, 0.09, against="incumbent"), main_loss(-0.9, -0.5), plain(-0.5)]
    assert judge(comparisons, [], ["support_loss"], [], provenance(incumbent=True)).passed
    assert not judge(comparisons, [], ["support_loss"], [], provenance()).passed


def test_a_falling_measure_gains() -> None:
    """Losses and times get better by falling: the gain is positive then, and its ends change sides."""
    found = compare(LOSS, LOSS.headline, "base", (1.0, 1.3), Interval(-0.3, -0.4, -0.1, 30), main=True, margin=0.02)
    assert (found.gain, found.low, found.high) == (0.3, 0.1, 0.4)


def test_a_relative_margin_is_a_share_of_the_other_score() -> None:
    """How much slower a model may be depends on how quick the other one is."""
    found = compare(SPEED, SPEED.headline, "base", (90.0, 80.0), Interval(10, 5, 15, 10), main=False, margin=0.5)
    assert found.margin == 40.0


@pytest.mark.parametrize(("samples", "margin"), [(50, 0.02), (100, 0.02), (10, 0.1)])
def test_one_sample_may_always_be_lost(samples: int, margin: float) -> None:
    """The margin of a share is never smaller than one of its samples: of ten questions one is ten points."""
    found = compare(PLAIN, PLAIN.headline, "base", (0.9, 1.0), Interval(-0.1, -0.3, 0.1, samples), main=False, margin=0.02)
    assert found.margin == margin


def test_a_recipe_may_set_margins_by_suite_and_by_measure() -> None:
    """The name of a suite means its first measure; "suite.measure" any; without either the default holds."""
    grounded = BY_NAME["grounded"]
    faithful = next(measure for measure in grounded.measures if measure.name == "faithful")
    assert margin_of(grounded, grounded.headline, {"grounded": 0.3}) == 0.3
    assert margin_of(grounded, faithful, {"grounded": 0.3}) == faithful.margin
    assert margin_of(grounded, faithful, {"grounded": 0.3, "grounded.faithful": 0.4}) == 0.4
    assert margin_of(grounded, grounded.headline, {}) == grounded.headline.margin


def test_every_suite_decides_something() -> None:
    """The first measure of each suite has a margin; names are unique."""
    assert all(suite.headline.margin is not None for suite in SUITES)
    assert len({suite.name for suite in SUITES}) == len(SUITES)


def test_a_verdict_is_plain_json() -> None:
    """Everything can be read again; an end that is not known is null, never Infinity."""
    endless = replace(plain(0.1), low=float("-inf"), high=float("inf"))
    plain_json = json.loads(
        encode_verdict(judge([main_loss(0.01, 0.09), endless], [], ["support_loss"], ["x"], provenance())), parse_constant=pytest.fail
    )
    assert plain_json["passed"] is True
    assert plain_json["comparisons"][1]["low"] is None
    assert plain_json["provenance"]["adapter_sha256"] == "a" * 64


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (0.123, "%", False, "12.3 %"),
        (0.123, "%", True, "+12.3 points"),
        (-0.0001, "%", True, "0.0 points"),
        (1.23456, "nats", False, "1.235 nats"),
        (-0.5, "ms", True, "-0.5 ms"),
    ],
)
def test_numbers_are_told_as_people_read_them(value: float, unit: str, signed: bool, text: str) -> None:
    """Shares are percent, their differences points, other numbers have their unit; nothing is minus zero."""
    assert describe(value, unit, signed=signed) == text


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.booleans()), min_size=1, max_size=6))
def test_a_pass_needs_every_main_suite(gains: list[tuple[float, float, bool]]) -> None:
    """Whatever the table, passed means: each main comparison lies above zero and each other one within its margin."""
    rows = [
        replace(
            plain(gain),
            low=gain - half,
            high=gain + half,
            main=main,
            suite="support_loss" if main else "plain_chat",
            measure="loss" if main else "answered",
        )
        for gain, half, main in gains
    ]
    verdict = judge(rows, [], ["support_loss"], [], provenance())
    mains = [row for row in rows if row.main]
    others = [row for row in rows if not row.main]
    assert verdict.passed == (bool(mains) and all(row.low > 0 for row in mains) and all(row.gain >= -0.02 for row in others))
