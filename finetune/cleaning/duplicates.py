"""Exact and near duplicates among samples.

MinHash with bands (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) finds candidates; whether two
samples are near duplicates is then decided on the shingles themselves, so no estimate throws anything away.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rensa

from finetune.cleaning.text import fold
from finetune.samples import Sample

EXACT: Final = "duplicate"
NEAR: Final = "near duplicate"
_WORDS_OF_SHINGLE: Final = 3
_WORDS_OF_EXCHANGE: Final = 8
_MINHASH: Final[Any] = rensa  # comes without types
_PERMUTATIONS: Final = 128
_SEED: Final = 17
_RECALL: Final = 0.999  # share of pairs at the threshold that become candidates
_UNSPACED: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a sample says, for comparing. Passages are not part of it: two questions on one article are two samples."""

    key: tuple[str, ...]  # skill, then who said what
    asked: frozenset[str]  # shingles
    answered: frozenset[str]


def fingerprint(sample: Sample) -> Fingerprint:
    """Return the fingerprint of a sample."""
    said = [fold(turn.content) or turn.content for turn in sample.turns]
    return Fingerprint((sample.skill, *said), shingles(said[0::2]), shingles(said[1::2]))


def shingles(texts: Iterable[str]) -> frozenset[str]:
    """Return all runs of three words; a character of a script without spaces is a word."""
    found: set[str] = set()
    for text in texts:
        words = _UNSPACED.findall(text)
        last = max(1, len(words) - _WORDS_OF_SHINGLE + 1)
        found.update(" ".join(words[start : start + _WORDS_OF_SHINGLE]) for start in range(last))
    return frozenset(found)


def exchanges(sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield the questions with their answers, without those that are said in every dialogue: both sides are at least eight words long."""
    said = [fold(turn.content) for turn in sample.turns]
    for question, answer in zip(said[0::2], said[1::2], strict=True):
        if min(len(_UNSPACED.findall(question)), len(_UNSPACED.findall(answer))) >= _WORDS_OF_EXCHANGE:
            yield question, answer


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return |one ∩ other| / |one ∪ other|; 1 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


class Index:
    """Fingerprints that were seen, searched by likeness."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._exact: dict[tuple[str, ...], int] = {}
        self._seen: list[Fingerprint] = []
        self._bands: Any = _MINHASH.RMinHashLSH(threshold, _PERMUTATIONS, bands(threshold)) if threshold else None

    def add(self, print_: Fingerprint) -> int:
        """Remember a fingerprint; return its number: 0, 1, 2 …"""
        number = len(self._seen)
        self._seen.append(print_)
        self._exact.setdefault(print_.key, number)
        if self._bands is not None:
            self._bands.insert(number, _minhash(print_))
        return number

    def find(self, print_: Fingerprint) -> tuple[int, str] | None:
        """Return the number of the first like fingerprint, and whether it is an exact or a near duplicate; None = there is none."""
        same = self._exact.get(print_.key)
        if same is not None:
            return same, EXACT
        near = (number for number in sorted(self._candidates(print_)) if self._alike(self._seen[number], print_))
        number = next(near, None)
        return None if number is None else (number, NEAR)

    def _candidates(self, print_: Fingerprint) -> Sequence[int]:
        return [] if self._bands is None else self._bands.query(_minhash(print_))

    def _alike(self, one: Fingerprint, other: Fingerprint) -> bool:
        """Both sides must be alike: the same refusal to two questions is no copy, nor are two answers to one question."""
        return (
            one.key[0] == other.key[0]
            and jaccard(one.asked, other.asked) >= self._threshold
            and jaccard(one.answered, other.answered) >= self._threshold
        )


def bands(threshold: float) -> int:
    """Return into how many bands the permutations are cut: as few as find a pair at the threshold nearly always."""
    counts = (count for count in (8, 16, 32, 64, 128) if 1 - (1 - threshold ** (_PERMUTATIONS // count)) ** count >= _RECALL)
    return next(counts, _PERMUTATIONS)


def _minhash(print_: Fingerprint) -> Any:
    minhash = _MINHASH.RMinHash(_PERMUTATIONS, _SEED)
    minhash.update([f"?{shingle}" for shingle in print_.asked] + [f"!{shingle}" for shingle in print_.answered])
    return minhash
