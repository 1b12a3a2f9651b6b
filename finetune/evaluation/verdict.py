"""Whether a candidate may take over: better where the recipe asks for it, and nowhere worse than allowed. Pure.

passed = every main suite's first measure is better than the reference's with an interval that excludes zero, and no measure that has a
         margin is worse than the reference's by more than that

The reference is the incumbent, or the base model when nothing is active. "Worse by more" is the plain difference: with a
hundred samples an interval is wider than any margin worth having, so asking for its far end would refuse every candidate. Of few
samples one alone is more than the margin of a share: the loss of one is always allowed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from finetune.evaluation.bootstrap import LEVEL, Interval
from finetune.evaluation.suites import BY_NAME, Measure, Suite

FORMAT: Final = 1
_ROUNDING: Final = 1e-9
LEAST_UNITS: Final = 8  # with fewer conversations or articles a bootstrap interval is too narrow to be believed


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of one model."""

    suite: str
    measure: str
    model: str  # candidate | incumbent | base
    value: float | None  # None = there was nothing to count
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of the candidate against another model. The gain is positive where the candidate is better, whatever the measure."""

    suite: str
    measure: str
    against: str  # incumbent | base
    candidate: float
    other: float
    gain: float
    low: float
    high: float
    units: int  # independent groups of samples behind the interval
    margin: float | None  # how far below zero the gain may be; None = as far as it likes
    main: bool  # whether it must be above zero


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was compared, so that the verdict can be believed and repeated."""

    adapter_sha256: str
    incumbent_sha256: str  # "" = there was none
    base_model: str
    base_model_sha256: str
    tokenizer_sha256: str
    template_sha256: str
    dataset: str  # version of the dataset: the hash of its content
    engine: str
    seed: int
    resamples: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an evaluation came to. `verdict.json` is this as JSON."""

    passed: bool
    reference: str  # incumbent | base: whom the candidate had to beat
    reasons: tuple[str, ...]  # sentences: what decided
    skipped: tuple[str, ...]  # sentences: suites that did not run, and why
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    provenance: Provenance
    level: float = LEVEL
    format: int = FORMAT


def compare(
    suite: Suite, measure: Measure, against: str, scores: tuple[float, float], found: Interval, *, main: bool, margin: float | None
) -> Comparison:
    """Return the comparison of (candidate, other) from the interval of candidate - other."""
    candidate, other = scores
    low, high, gain = (found.low, found.high, found.value) if measure.higher_is_better else (-found.high, -found.low, -found.value)
    allowed = None if margin is None else _allowed(measure, margin, other, found.units)
    return Comparison(suite.name, measure.name, against, candidate, other, gain, low, high, found.units, allowed, main)


def _allowed(measure: Measure, margin: float, other: float, units: int) -> float:
    """Return a margin in the unit of the measure. A share is not known more finely than one sample, so that much is always allowed."""
    if measure.unit == "%":
        return max(margin, 1 / units)
    return margin * abs(other) if measure.relative else margin


def judge(
    comparisons: Sequence[Comparison], scores: Sequence[Score], main: Sequence[str], skipped: Sequence[str], provenance: Provenance
) -> Verdict:
    """Return the verdict. A main suite that did not run fails it."""
    reference = "incumbent" if provenance.incumbent_sha256 else "base"
    deciding = [comparison for comparison in comparisons if comparison.against == reference]
    complaints = [*_missing(deciding, main), *(sentence for each in deciding if (sentence := _complaint(each)))]
    reasons = complaints or [_praise(each) for each in deciding if each.main]
    return Verdict(not complaints, reference, tuple(reasons), tuple(skipped), tuple(scores), tuple(comparisons), provenance)


def margin_of(suite: Suite, measure: Measure, margins: Mapping[str, float]) -> float | None:
    """Return how much worse a measure may get: by the recipe's "suite.measure", "suite" (its first measure), or by default."""
    own = f"{suite.name}.{measure.name}"
    if own in margins:
        return margins[own]
    return margins.get(suite.name, measure.margin) if measure is suite.headline else measure.margin


def encode_verdict(verdict: Verdict) -> str:
    """Return the verdict as JSON. What is infinite (an interval that nothing is known of) is null."""
    plain: dict[str, Any] = asdict(verdict)
    plain["comparisons"] = [_finite(comparison) for comparison in plain["comparisons"]]
    return json.dumps(plain, ensure_ascii=False, indent=2)


def describe(value: float, unit: str, *, signed: bool = False) -> str:
    """Return a number as people read it: a share in percent (a difference of shares in points), everything else with its unit."""
    number = short(value, unit, signed=signed)
    if unit == "%":
        return f"{number} {'points' if signed else '%'}"
    return f"{number} {unit}"


def short(value: float, unit: str, *, signed: bool = False) -> str:
    """Return a number without its unit; a share in percent, a difference of shares in points."""
    scaled, digits = (100 * value, 1) if unit == "%" else (value, 3 if unit == "nats" else 1)
    rounded = round(scaled, digits) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def find_measure(suite: str, measure: str) -> Measure:
    """Return a measure by the names in a comparison or score."""
    return next(each for each in BY_NAME[suite].measures if each.name == measure)


def _missing(deciding: Sequence[Comparison], main: Sequence[str]) -> list[str]:
    ran = {comparison.suite for comparison in deciding if comparison.main}
    return [f"{_title(name)} must get better, but could not be compared." for name in main if name not in ran]


def _complaint(each: Comparison) -> str:
    """Say why this comparison fails the candidate; "" when it does not."""
    what = f"{_title(each.suite)} ({find_measure(each.suite, each.measure).title})"
    if each.main and each.units < LEAST_UNITS:
        return f"{what}: {each.units} independent samples are too few to tell; {LEAST_UNITS} are the least."
    if each.main and not each.low > 0:
        return f"{what} must get better than the {each.against}: the gain is {_interval(each)}, which does not exclude zero."
    if not each.main and each.margin is not None and each.gain < -each.margin - _ROUNDING:
        return f"{what} is worse than the {each.against}: {_interval(each)}; allowed is {_amount(each, -each.margin)}."
    return ""


def _praise(each: Comparison) -> str:
    title = find_measure(each.suite, each.measure).title
    return f"{_title(each.suite)} ({title}) is better than the {each.against}: {_interval(each)}."


def _interval(each: Comparison) -> str:
    unit = find_measure(each.suite, each.measure).unit
    low, high = (short(bound, unit, signed=True) for bound in (each.low, each.high))
    return f"{_amount(each, each.gain)} ({low} to {high})"


def _amount(each: Comparison, value: float) -> str:
    return describe(value, find_measure(each.suite, each.measure).unit, signed=True)


def _title(suite: str) -> str:
    return BY_NAME[suite].title if suite in BY_NAME else suite


def _finite(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and abs(value) == float("inf") else value for name, value in plain.items()}
