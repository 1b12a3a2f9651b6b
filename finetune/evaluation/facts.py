"""Facts that an answer must keep: numbers, links and names of the reference. Pure.

A fact is kept when it stands in the answer as it is, case and the commas of thousands aside. Names are words in capitals
that do not begin a sentence: a rule for European languages; Chinese has none, so there numbers and links count.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

LINK: Final = re.compile(r"(?:https?://|www\.)[^\s<>()\[\]，。]*[^\s<>()\[\]，。.,;:!?]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
NUMBER: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NAME: Final = re.compile(r"(?<![.!?…:\n\"“(\[*-]\s)(?<!^)(?<![\w'’])[A-Z][\w'’&-]*[\w](?:\s+[A-Z][\w'’&-]*[\w])*")
_LETTER: Final = r"[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # of scripts that put spaces between words
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_COMMON: Final = frozenset({"I'm", "I'll", "I've", "I'd", "OK", "I’m", "I’ll", "I’ve", "I’d"})


class Kept(NamedTuple):
    """How many facts were kept, of how many."""

    kept: int
    total: int


def find_facts(text: str) -> tuple[str, ...]:
    """Return the links, numbers and names in a text, each once, in that order."""
    rest = LINK.sub(" ", text)
    names = [name for name in _NAME.findall(rest) if name not in _COMMON]
    return tuple(dict.fromkeys([*LINK.findall(text), *NUMBER.findall(rest), *names]))


def keeps(answer: str, fact: str) -> bool:
    """Whether a fact stands in an answer as a whole: not as a part of a longer number or word."""
    wanted = _plain(fact)
    before, after = _border(wanted[:1], r"(?<![\d.,])", "(?<!{})"), _border(wanted[-1:], r"(?![.,]?\d)", "(?!{})")
    return re.search(f"{before}{re.escape(wanted)}{after}", _plain(answer)) is not None


def count_kept(answer: str, facts: Iterable[str]) -> Kept:
    """Return how many of `facts` an answer keeps."""
    kept = [keeps(answer, fact) for fact in facts]
    return Kept(sum(kept), len(kept))


def _border(edge: str, of_number: str, of_word: str) -> str:
    """Return what may not stand beside a fact whose outermost character is `edge`."""
    if edge.isdigit():
        return of_number
    return of_word.format(_LETTER) if re.match(_LETTER, edge) else ""


def _plain(text: str) -> str:
    return _THOUSANDS.sub("", " ".join(text.casefold().split()))
