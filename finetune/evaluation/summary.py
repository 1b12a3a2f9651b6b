"""The evaluation for a terminal: verdict, reasons, and a table with what was gained."""

from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune.evaluation.suites import BY_NAME, Measure, Suite
from finetune.evaluation.verdict import Comparison, Score, Verdict, describe, short

_COLUMNS: Final = ("suite", "measure", "candidate", "incumbent", "base", "gain", "interval")

Scores = Mapping[tuple[str, str, str], Score]


def show(verdict: Verdict, console: Console) -> None:
    """Print the verdict with its reasons, the table, and what was not run."""
    word = Text("passed", style="bold green") if verdict.passed else Text("not passed", style="bold red")
    console.print(Text.assemble("The candidate has ", word, f", compared with the {verdict.reference}."))
    for reason in verdict.reasons:
        console.print(Text(f"  {reason}"))
    console.print(score_table(verdict))
    for skipped in verdict.skipped:
        console.print(Text(f"Not run. {skipped}"))


def score_table(verdict: Verdict) -> Table:
    """Return one row for each measure; the gain is against whom the candidate had to beat."""
    scores: Scores = {(score.suite, score.measure, score.model): score for score in verdict.scores}
    gains = {(each.suite, each.measure): each for each in verdict.comparisons if each.against == verdict.reference}
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="bold")
    for suite in BY_NAME.values():
        for measure in suite.measures:
            if (suite.name, measure.name, "candidate") in scores:
                table.add_row(*(Text(cell) for cell in _row(suite, measure, scores, gains.get((suite.name, measure.name)))))
    return table


def _row(suite: Suite, measure: Measure, scores: Scores, gain: Comparison | None) -> list[str]:
    values = [_value(scores.get((suite.name, measure.name, model)), measure) for model in ("candidate", "incumbent", "base")]
    return [suite.name, measure.title, *values, *_gain(gain, measure)]


def _value(score: Score | None, measure: Measure) -> str:
    return "" if score is None or score.value is None else describe(score.value, measure.unit)


def _gain(gain: Comparison | None, measure: Measure) -> tuple[str, str]:
    if gain is None:
        return "", ""
    low, high = (short(value, measure.unit, signed=True) for value in (gain.low, gain.high))
    return describe(gain.gain, measure.unit, signed=True), f"{low} to {high}"
