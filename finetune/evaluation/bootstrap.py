"""How sure a difference between two models is: paired bootstrap intervals (Efron & Tibshirani 1993; for paired systems Koehn 2004). Pure.

Every score here is a ratio of sums, Σ numerator / Σ denominator over samples: a mean where each denominator is 1, loss per token
where it is a count of tokens, precision where it counts what was claimed. Both models answered the same samples, so each
resample draws samples, not answers. Samples of one group (a conversation, an article) hang together: groups are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
_BLOCK: Final = 4_000_000  # resampled indices in memory at once


@dataclass(frozen=True, slots=True)
class Counts:
    """What one model got in one measure: a numerator and a denominator for each sample."""

    numerators: tuple[float, ...]
    denominators: tuple[float, ...]

    @property
    def score(self) -> float | None:
        """Σ numerators / Σ denominators; None when there is nothing to divide by."""
        total = sum(self.denominators)
        return sum(self.numerators) / total if total else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float
    units: int  # independent groups behind it

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on the same side of zero."""
        return self.low > 0 or self.high < 0


def difference(ours: Counts, theirs: Counts, groups: Sequence[str], *, resamples: int, seed: int) -> Interval | None:
    """Return score(ours) - score(theirs) with its percentile interval; None when one of the scores does not exist.

    `groups` names the group of each sample. Equal arguments give equal intervals.
    """
    if ours.score is None or theirs.score is None:
        return None
    left, right = _by_group(ours, groups), _by_group(theirs, groups)
    drawn = _resampled(left, resamples, seed) - _resampled(right, resamples, seed)
    return _interval(ours.score - theirs.score, drawn, left.shape[1])


def spread(counts: Counts, groups: Sequence[str], *, resamples: int, seed: int) -> Interval | None:
    """Return a score with its percentile interval; None when it does not exist."""
    if counts.score is None:
        return None
    sums = _by_group(counts, groups)
    return _interval(counts.score, _resampled(sums, resamples, seed), sums.shape[1])


def _by_group(counts: Counts, groups: Sequence[str]) -> Floats:
    """Return (2, groups): numerators and denominators, summed within each group."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((2, len(places)))
    at = [places[group] for group in groups]
    np.add.at(sums[0], at, counts.numerators)
    np.add.at(sums[1], at, counts.denominators)
    return sums


def _resampled(sums: Floats, resamples: int, seed: int) -> Floats:
    """Return the score of each resample: (resamples,). NaN where one has nothing to divide by."""
    generator = np.random.default_rng(seed)
    units = sums.shape[1]
    block = max(1, _BLOCK // units)
    scores: list[Floats] = []
    for start in range(0, resamples, block):
        drawn = generator.integers(0, units, (min(block, resamples - start), units))
        totals = sums[:, drawn].sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores.append(totals[0] / totals[1])
    return np.concatenate(scores)


def _interval(value: float, drawn: Floats, units: int) -> Interval:
    finite = drawn[np.isfinite(drawn)]
    if not finite.size:
        return Interval(value, -np.inf, np.inf, units)
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), units)
