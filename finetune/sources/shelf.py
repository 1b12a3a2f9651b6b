"""Which other sections stand beside the right one: some that sound like it, some that do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from finetune.sources.words import content_words, likeness, rarity

_MAY_ANSWER: Final = 0.6  # share of the question's words, by rarity, from which another section may answer it too
_HARD: Final = 8  # the most alike, of which the hard ones are drawn


@dataclass(frozen=True, slots=True)
class ShelfEntry:
    """A section that can be shown."""

    article: str
    language: str
    heading: str
    text: str


class Shelf:
    """All sections of one side of a split."""

    def __init__(self, entries: Sequence[ShelfEntry]) -> None:
        self._entries = entries
        self._words = [content_words(f"{entry.heading} {entry.text}") for entry in entries]
        self._weights = rarity(self._words)

    def distractors(self, place: int, question: str, count: int, rng: Random) -> list[int]:
        """Return the places of at most `count` sections of other articles in the same language that do not answer the question.

        Every second one, the first included, shares many words with the question and the section at `place`.
        """
        alike = self._alike(place, question)
        hard = sorted(alike, key=lambda other: (-alike[other], other))[:_HARD]
        rng.shuffle(hard)
        rest = [other for other in alike if other not in hard]
        chosen: list[int] = []
        for number in range(min(count, len(alike))):
            pool = hard if (number % 2 == 0 and hard) or not rest else rest
            chosen.append(pool.pop(rng.randrange(len(pool))))
        return chosen

    def _alike(self, place: int, question: str) -> dict[int, float]:
        """Return for each section that may stand beside the one at `place` how much it sounds like it."""
        own = self._entries[place]
        asked = content_words(f"{question} {own.heading}")
        found: dict[int, float] = {}
        for other, entry in enumerate(self._entries):
            if entry.article == own.article or entry.language != own.language or entry.text == own.text:
                continue
            share = likeness(asked, self._words[other], self._weights)
            if share < _MAY_ANSWER:
                found[other] = share
        return found
