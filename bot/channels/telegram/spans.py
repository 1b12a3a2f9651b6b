"""Text with formatting, counted in code points, before it is cut into messages; and which formatting Telegram can nest."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_ENTITIES: Final = 100  # Telegram ignores those behind
MAX_ENTITY_BYTES: Final = 9000  # of all entities of a message together, somewhat below what Telegram refuses

_MONOSPACE: Final = {"pre", "code"}
_STYLES: Final = {"bold", "italic", "strikethrough"}
_INDENTED: Final = {"pre", "blockquote"}  # can begin with the indentation of code
_RANK: Final = {"text_link": 0, "pre": 1, "code": 2, "blockquote": 3}


@dataclass(frozen=True, slots=True)
class Span:
    """Formatting of the characters `start` to `end`."""

    type: str
    start: int
    end: int
    url: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class RichText:
    """What is shown, and how."""

    text: str
    spans: tuple[Span, ...] = ()

    def piece(self, start: int, end: int) -> "RichText":
        """Return the characters `start` to `end` as a text of its own, with as much formatting as a message can have."""
        text = self.text[start:end]
        inside = [
            replace(span, start=max(span.start, start) - start, end=min(span.end, end) - start)
            for span in self.spans
            if span.start < end and span.end > start
        ]
        return RichText(text, tuple(_affordable(_trimmed(text, inside))))


def nestable(spans: Iterable[Span]) -> list[Span]:
    """Return the formatting without what Telegram would drop: monospace stands in nothing but quotes, links come before it."""
    spans = sorted(spans, key=_place)
    links = _Row([span for span in spans if span.type == "text_link"])
    monospace = _Row([span for span in spans if span.type in _MONOSPACE and not links.touching(span)])
    others = [span for span in spans if span.type not in _MONOSPACE]
    return sorted([*monospace.spans, *(piece for span in others for piece in _around(span, monospace))], key=_place)


class _Row:
    """Spans one behind the other, none of which overlap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._starts = [span.start for span in spans]
        self._ends = [span.end for span in spans]

    def touching(self, span: Span) -> Sequence[Span]:
        return self.spans[bisect_right(self._ends, span.start) : bisect_left(self._starts, span.end)]


def _around(span: Span, holes: _Row) -> Iterator[Span]:
    """Yield the pieces of a style between stretches of monospace; anything else as it is."""
    start = span.start
    for hole in holes.touching(span) if span.type in _STYLES else ():
        if start < hole.start:
            yield replace(span, start=start, end=hole.start)
        start = hole.end
    if start < span.end:
        yield replace(span, start=start)


def _trimmed(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return the spans without blanks at their ends, except the indentation of code; without those that are nothing but blank."""
    trimmed = []
    for span in spans:
        shown = text[span.start : span.end]
        end = span.end - (len(shown) - len(shown.rstrip()))
        start = span.start if span.type in _INDENTED else span.end - len(shown.lstrip())
        if shown.strip():
            trimmed.append(replace(span, start=start, end=end))
    return trimmed


def _affordable(spans: Sequence[Span]) -> list[Span]:
    """Return the most important of the spans, as many as Telegram takes, in the order of the text."""
    kept: list[Span] = []
    left = MAX_ENTITY_BYTES
    for span in sorted(spans, key=lambda span: _RANK.get(span.type, len(_RANK))):
        left -= 12 + len(span.url.encode()) + len(span.language.encode())
        if left < 0 or len(kept) == MAX_ENTITIES:
            break
        kept.append(span)
    return sorted(kept, key=_place)


def _place(span: Span) -> tuple[int, int, str]:
    return span.start, -span.end, span.type
