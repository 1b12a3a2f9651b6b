"""From answers, losses and times to counts, scores and comparisons. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune.config import EvaluateSection
from finetune.evaluation.answers import Answer
from finetune.evaluation.bootstrap import Counts, difference, spread
from finetune.evaluation.contenders import Place
from finetune.evaluation.suites import Measure, Suite
from finetune.evaluation.verdict import Comparison, Score, compare, margin_of
from finetune.samples import Sample

Sheet = Mapping[tuple[str, Place], Counts]  # what each contender got in each measure of a suite


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What came out of one suite. Counts are aligned with `samples`."""

    suite: Suite
    samples: tuple[Sample, ...]
    sheet: Sheet

    @property
    def groups(self) -> tuple[str, ...]:
        """What must be resampled together: the group of each sample."""
        return tuple(sample.group for sample in self.samples)


def judge_answers(suite: Suite, samples: Sequence[Sample], answers: Mapping[Place, Mapping[str, Answer]]) -> SuiteResult:
    """Return what each contender's answers count in a suite. `answers` are by sample id."""
    sheet = {(measure.name, place): _counts(measure, samples, given) for measure in suite.measures for place, given in answers.items()}
    return SuiteResult(suite, tuple(samples), sheet)


def judge_latency(suite: Suite, samples: Sequence[Sample], answers: Mapping[Place, Sequence[Answer]]) -> SuiteResult:
    """Return how quick each contender was. Work that a cache spared is added again: it is no merit of the model."""
    sheet: dict[tuple[str, Place], Counts] = {}
    for place, given in answers.items():
        ones = tuple(1.0 for _ in given)
        sheet["first_token", place] = Counts(tuple(_prompt_ms(answer) for answer in given), ones)
        sheet["speed", place] = Counts(
            tuple(float(answer.tokens) for answer in given), tuple(answer.generation_ms / 1000 for answer in given)
        )
    return SuiteResult(suite, tuple(samples), sheet)


def scores(result: SuiteResult, section: EvaluateSection, seed: int) -> Iterator[Score]:
    """Yield the score of each contender in each measure, with its interval."""
    for (name, place), counts in result.sheet.items():
        found = spread(counts, result.groups, resamples=section.bootstrap, seed=seed)
        if found is None:
            yield Score(result.suite.name, name, place.value, None, None, None)
        else:
            yield Score(result.suite.name, name, place.value, found.value, found.low, found.high)


def comparisons(result: SuiteResult, section: EvaluateSection, seed: int) -> Iterator[Comparison]:
    """Yield the candidate's comparison with every other contender in each measure that both have a score in."""
    for measure in result.suite.measures:
        for place in (Place.INCUMBENT, Place.BASE):
            if (compared := _compared(result, measure, place, section, seed)) is not None:
                yield compared


def _compared(result: SuiteResult, measure: Measure, place: Place, section: EvaluateSection, seed: int) -> Comparison | None:
    ours, theirs = result.sheet[measure.name, Place.CANDIDATE], result.sheet.get((measure.name, place))
    if theirs is None or ours.score is None or theirs.score is None:
        return None
    found = difference(ours, theirs, result.groups, resamples=section.bootstrap, seed=seed)
    if found is None:
        return None
    main = result.suite.name in section.main and measure is result.suite.headline
    margin = margin_of(result.suite, measure, section.margins)
    return compare(result.suite, measure, place.value, (ours.score, theirs.score), found, main=main, margin=margin)


def _counts(measure: Measure, samples: Sequence[Sample], answers: Mapping[str, Answer]) -> Counts:
    counted = [measure.judge(sample, answers[sample.id].text) for sample in samples]
    return Counts(tuple(count.numerator for count in counted), tuple(count.denominator for count in counted))


def _prompt_ms(answer: Answer) -> float:
    computed = max(1, answer.prompt_tokens - answer.cached_tokens)
    return answer.prompt_ms * answer.prompt_tokens / computed
