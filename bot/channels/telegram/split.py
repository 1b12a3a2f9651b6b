"""Where a long text is cut: between blocks if possible, else lines, sentences, words; at the very worst between two characters."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

_BORDERS: Final = (
    re.compile(r"\n\n+"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s|(?<=[。！？；])"),
    re.compile(r"\s|(?<=[，、])"),
)
_SHORTEST: Final = 4  # a part is at least a fourth of the limit, before a worse kind of border is taken
_JOINER: Final = "\u200d"
_LONGEST_CLUSTER: Final = 64  # characters that are kept together at a hard cut; more than that is nobody's writing

Range = tuple[int, int]


def cuts(text: str, offsets: Sequence[int], limit: int, unbroken: Sequence[Range] = ()) -> Iterator[Range]:
    """Yield the parts of a text, as start and end, of 1 to `limit` units each; `unbroken` are better not cut.

    `offsets` are those of the characters and of the end, in units.
    """
    start, end = 0, len(text.rstrip())
    while start < end:
        reach = max(start + 1, bisect_right(offsets, offsets[start] + limit) - 1)
        stop = end if reach >= end else _border(text, start, reach, [whole for whole in unbroken if whole[0] < reach and start < whole[1]])
        shown = start + len(text[start:stop].rstrip())
        if shown > start:
            yield start, shown
        start = _next_start(text, stop)


def _border(text: str, start: int, reach: int, unbroken: Sequence[Range]) -> int:
    """Return the best place for a cut up to `reach`."""
    earliest = start + (reach - start) // _SHORTEST
    for border in _BORDERS:
        places = [found.start() for found in border.finditer(text, earliest, min(len(text), reach + 1)) if start < found.start() <= reach]
        whole = [place for place in places if not any(inner < place < outer for inner, outer in unbroken)]
        if border is _BORDERS[0]:
            places = whole
        if places:
            return (whole or places)[-1]
    return _hard_cut(text, start, reach)


def _hard_cut(text: str, start: int, reach: int) -> int:
    """Return a place up to `reach` that does not tear accents from their letters, or joined emoji apart."""
    for place in range(reach, max(start, reach - _LONGEST_CLUSTER), -1):
        if not _clings(text[place - 1], text[place]):
            return place
    return reach


def _clings(before: str, after: str) -> bool:
    return (
        _JOINER in (before, after)
        or unicodedata.category(after).startswith("M")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or (_is_flag_half(before) and _is_flag_half(after))
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _next_start(text: str, stop: int) -> int:
    """Return where the next part begins: behind blank lines and blanks, but with the indentation of its first line."""
    rest = re.compile(r"\s*").match(text, stop)
    behind = rest.end() if rest else stop
    line = text.rfind("\n", stop, behind)
    return behind if line < 0 else line + 1
