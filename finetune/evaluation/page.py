"""What stands on the report's page, before it is HTML. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from finetune.evaluation import plots
from finetune.evaluation.contenders import Place
from finetune.evaluation.evaluate import Evaluation
from finetune.evaluation.examples import Example, changed_most
from finetune.evaluation.scoring import SuiteResult
from finetune.evaluation.suites import Measure, Suite
from finetune.evaluation.verdict import Comparison, Score, Verdict, describe, short


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One line of the table."""

    title: str
    values: Mapping[str, str]  # by model
    gain: str  # "" = there was nothing to compare
    interval: str
    judgement: str  # better | worse | unsure | ""
    note: str  # what this line decides
    picture: Markup | None


@dataclass(frozen=True, slots=True)
class SuiteView:
    """One suite on the page."""

    suite: Suite
    samples: int
    groups: int
    rows: tuple[MeasureRow, ...]
    picture: Markup | None
    examples: tuple[Example, ...]

    def score(self, value: float) -> str:
        """Return a single score for people."""
        return describe(value, self.suite.headline.unit)


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the template shows."""

    name: str
    description: str
    verdict: Verdict
    models: tuple[str, ...]
    suites: tuple[SuiteView, ...]
    curve: Markup | None
    lengths: Markup | None
    first_token: Markup | None


def build_page(evaluation: Evaluation, name: str, description: str, metrics: Sequence[Mapping[str, Any]]) -> Page:
    """Return the page of an evaluation. `metrics` are the lines of the run's metrics.jsonl."""
    verdict = evaluation.verdict
    models = tuple(place.value for place in Place if any(score.model == place.value for score in verdict.scores))
    views = tuple(_suite_view(result, evaluation, models) for result in evaluation.results)
    return Page(name, description, verdict, models, views, plots.learning_curve(metrics), _lengths(evaluation), _first_token(evaluation))


def _suite_view(result: SuiteResult, evaluation: Evaluation, models: Sequence[str]) -> SuiteView:
    verdict = evaluation.verdict
    rows = tuple(_row(result.suite, measure, verdict, models) for measure in result.suite.measures)
    examples = changed_most(result, Place(verdict.reference), evaluation.answers) if result.suite.source != "latency" else ()
    return SuiteView(result.suite, len(result.samples), len(set(result.groups)), rows, _dots(result.suite, verdict, models), examples)


def _row(suite: Suite, measure: Measure, verdict: Verdict, models: Sequence[str]) -> MeasureRow:
    found = {score.model: score.value for score in _scores(suite, measure, verdict)}
    values = {model: _cell(found.get(model), measure) for model in models}
    title = measure.title if measure.unit == "%" else f"{measure.title} ({measure.unit})"
    gain = next((each for each in verdict.comparisons if _is(each, suite, measure) and each.against == verdict.reference), None)
    if gain is None:
        return MeasureRow(title, values, "", "", "", "", None)
    low, high = (short(value, measure.unit, signed=True) for value in (gain.low, gain.high))
    kind = "better" if gain.low > 0 else "worse" if gain.high < 0 else "unsure"
    shown = short(gain.gain, measure.unit, signed=True)
    return MeasureRow(title, values, shown, f"{low} to {high}", kind, _note(gain, measure), plots.gain_bar(gain))


def _cell(value: float | None, measure: Measure) -> str:
    if value is None:
        return "–"
    return describe(value, "%") if measure.unit == "%" else short(value, measure.unit)


def _note(gain: Comparison, measure: Measure) -> str:
    if gain.main:
        return "must get better"
    if gain.margin is None:
        return ""
    if measure.relative and gain.other:
        return f"may lose {gain.margin / abs(gain.other):.0%} of it"
    return f"may lose {describe(gain.margin, measure.unit, signed=True).removeprefix('+')}"


def _dots(suite: Suite, verdict: Verdict, models: Sequence[str]) -> Markup | None:
    scores = {score.model: score for score in _scores(suite, suite.headline, verdict)}
    rows = [dot for model in models if model in scores and (dot := _dot(scores[model], suite.headline))]
    return plots.dots(rows, share=suite.headline.unit == "%") if rows else None


def _dot(score: Score, measure: Measure) -> plots.Dot | None:
    if score.value is None or score.low is None or score.high is None:
        return None
    return plots.Dot(score.model, score.value, score.low, score.high, describe(score.value, measure.unit))


def _scores(suite: Suite, measure: Measure, verdict: Verdict) -> Iterator[Score]:
    return (score for score in verdict.scores if _is(score, suite, measure))


def _is(each: Score | Comparison, suite: Suite, measure: Measure) -> bool:
    return (each.suite, each.measure) == (suite.name, measure.name)


def _lengths(evaluation: Evaluation) -> Markup | None:
    if not evaluation.questions:
        return None
    lengths: dict[str, list[float]] = {
        place.value: [float(len(answer.text)) for answer in given.values()] for place, given in evaluation.answers.items()
    }
    people = [float(len(question.sample.answer)) for question in evaluation.questions]
    return plots.strips({**lengths, "people": people}, "characters")


def _first_token(evaluation: Evaluation) -> Markup | None:
    for result in evaluation.results:
        if result.suite.name == "latency":
            return plots.strips(
                {place.value: counts.numerators for (name, place), counts in result.sheet.items() if name == "first_token"}, "ms"
            )
    return None
