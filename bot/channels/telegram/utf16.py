"""Telegram counts text in UTF-16 code units; Python in code points. This is the way from one to the other."""

from collections.abc import Sequence
from itertools import accumulate


def utf16_offsets(text: str) -> Sequence[int]:
    """Return the UTF-16 offset before each character, and that of the end: `len(text) + 1` numbers."""
    if not text or max(text) <= "\uffff":
        return range(len(text) + 1)
    return list(accumulate((2 if character > "\uffff" else 1 for character in text), initial=0))


def utf16_length(text: str) -> int:
    """Return how many UTF-16 units the text has."""
    return utf16_offsets(text)[-1]
