"""Which answers the report shows side by side: those that changed most, the worst as well as the best. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from finetune.evaluation.answers import Answer
from finetune.evaluation.bootstrap import Counts
from finetune.evaluation.contenders import Place
from finetune.evaluation.scoring import SuiteResult
from finetune.evaluation.suites import Measure
from finetune.samples import Sample

PER_SUITE: Final = 6  # examples of one suite, half of them worse where there are any


@dataclass(frozen=True, slots=True)
class Example:
    """One sample, what each contender said to it, and what that counted in the suite's first measure."""

    sample: Sample
    answers: Mapping[Place, str]  # empty for suites that judge losses
    scores: Mapping[Place, float]
    gain: float  # positive = the candidate is better than the reference

    @property
    def is_worse(self) -> bool:
        return self.gain < 0


def changed_most(
    result: SuiteResult, reference: Place, answers: Mapping[Place, Mapping[str, Answer]], most: int = PER_SUITE
) -> tuple[Example, ...]:
    """Return the samples of a suite on which the candidate differs most from the reference, the largest change first."""
    found = sorted(_examples(result, reference, answers), key=lambda example: -abs(example.gain))
    changed = [example for example in found if example.gain]
    worse = [example for example in changed if example.is_worse][: most // 2]
    better = [example for example in changed if not example.is_worse][: most - len(worse)]
    worse = [example for example in changed if example.is_worse][: most - len(better)]
    return tuple(sorted([*worse, *better], key=lambda example: -abs(example.gain)))


def _examples(result: SuiteResult, reference: Place, answers: Mapping[Place, Mapping[str, Answer]]) -> Iterator[Example]:
    measure = result.suite.headline
    columns = {place: counts for (name, place), counts in result.sheet.items() if name == measure.name}
    for number, sample in enumerate(result.samples):
        scores = {place: value for place, counts in columns.items() if (value := _single(counts, number)) is not None}
        if Place.CANDIDATE in scores and reference in scores:
            said = {place: given[sample.id].text for place, given in answers.items() if sample.id in given}
            shown = said if result.suite.source == "answers" else {}
            yield Example(sample, shown, scores, _gain(measure, scores[Place.CANDIDATE], scores[reference]))


def _single(counts: Counts, number: int) -> float | None:
    denominator = counts.denominators[number]
    return counts.numerators[number] / denominator if denominator else None


def _gain(measure: Measure, ours: float, theirs: float) -> float:
    return ours - theirs if measure.higher_is_better else theirs - ours
