"""Whether an answer rests on its passages: the numbers that it cites, and what it takes from them. Pure."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from dialogue.skills.base import Passage
from finetune.evaluation.facts import NUMBER
from finetune.evaluation.metrics import is_cjk, words

_MARK: Final = re.compile(r"[\[【［]\s*(\d{1,2}(?:\s*[,，、;]\s*\d{1,2})*)\s*[\]】］]")
_STEM: Final = 5
_SHORTEST: Final = 4  # letters of a word that says something; shorter ones are mostly grammar


class Found(NamedTuple):
    """How many content words of an answer stand in its material, of how many."""

    found: int
    total: int


def citations(answer: str) -> tuple[int, ...]:
    """Return the passage numbers that an answer names as [1], [1, 2] or 【1】, each once, in their order."""
    numbers = [int(number) for mark in _MARK.findall(answer) for number in re.findall(r"\d+", mark)]
    return tuple(dict.fromkeys(numbers))


def without_marks(answer: str) -> str:
    """Return an answer without its citation marks."""
    return _MARK.sub(" ", answer)


def faithfulness(answer: str, passages: Iterable[Passage], question: str) -> Found:
    """Count the content words and numbers of an answer that stand in the passages it rests on or in the question.

    Chinese is compared by pairs of characters. A model that copies is faithful; one that invents is not.
    """
    material = " ".join([question, *(f"{passage.title} {passage.text}" for passage in passages)])
    said = content(without_marks(answer))
    known = content(material) | {stem for word in content(material) if (stem := _stem(word))}
    return Found(sum(word in known or _stem(word) in known for word in said), len(said))


def cited_passages(answer: str, passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return the passages that an answer cites; all of them when it cites none."""
    cited = tuple(passages[number - 1] for number in citations(answer) if 1 <= number <= len(passages))
    return cited or tuple(passages)


def content(text: str) -> set[str]:
    """Return what a text says: its longer words, its numbers and its pairs of Chinese characters."""
    found = words(text)
    pairs = {left + right for left, right in pairwise(found) if is_cjk(left) and is_cjk(right)}
    return pairs | {word for word in found if len(word) >= _SHORTEST and not is_cjk(word)} | set(NUMBER.findall(text))


def _stem(word: str) -> str:
    """Cut the endings that English words change most, so that "reset" and "resetting" meet."""
    if not (word.isascii() and word.isalpha()):
        return word
    return word[:_STEM] if len(word) > _STEM else word.removesuffix("s")
