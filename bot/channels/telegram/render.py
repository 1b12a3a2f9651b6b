"""Answers of the model as Telegram shows them: messages with formatting, of which no character of the answer is lost.

The promise holds by construction: what was rendered is compared with what was written, and if anything is missing the answer
is shown as it was written. The same text gives the same parts in every process, since a later one may repeat a delivery.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.channels.telegram.clean import clean, is_visible
from bot.channels.telegram.markdown import parse
from bot.channels.telegram.spans import RichText
from bot.channels.telegram.split import cuts
from bot.channels.telegram.utf16 import utf16_offsets

TEXT_LIMIT: Final = 4096  # UTF-16 units of a message
MAX_PARSED_CHARS: Final = 20_000  # longer texts are shown as they are: reading them could take seconds
NOTHING: Final = "…"

_MARKUP: Final = re.compile(r"""[\s\\`*_~#>|\-+=\[\]()!<:"']+""")


@dataclass(frozen=True, slots=True)
class Entity:
    """Formatting of a stretch of a message, counted in UTF-16 units."""

    type: str
    offset: int
    length: int
    url: str = ""
    language: str = ""

    def as_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"type": self.type, "offset": self.offset, "length": self.length}
        return fields | {name: value for name, value in (("url", self.url), ("language", self.language)) if value}


@dataclass(frozen=True, slots=True)
class Part:
    """One message."""

    text: str  # 1 to 4096 UTF-16 units
    entities: tuple[Entity, ...] = ()


def render(markdown: str, *, limit: int = TEXT_LIMIT) -> tuple[Part, ...]:
    """Return the answer as one or more messages."""
    original = clean(markdown)
    for write_links in (False, True):
        rich = _parsed(original, write_links=write_links)
        pieces = _pieces(rich, limit) if rich else []
        if pieces and _keeps(original, pieces):
            return tuple(map(_part, pieces))
    return plain(markdown, limit=limit)


def plain(text: str, *, limit: int = TEXT_LIMIT) -> tuple[Part, ...]:
    """Return the text as it was written, without formatting."""
    shown = clean(text).strip()
    pieces = [piece.strip() for piece in (shown[start:end] for start, end in cuts(shown, limit)) if is_visible(piece)]
    return tuple(map(Part, pieces)) or (Part(NOTHING),)


def preview(markdown: str, *, limit: int = TEXT_LIMIT) -> Part:
    """Return as much of a text that is still being written as one message holds: its end."""
    original = clean(markdown)
    rich = _parsed(original) or RichText(original)
    pieces = list(_pieces(_tail(rich, limit), limit))
    return _part(pieces[0]) if pieces else Part(NOTHING)


def _parsed(text: str, *, write_links: bool = False) -> RichText | None:
    """Return the formatted text, or None for one that is too long for the parser or too much for it."""
    if len(text) > MAX_PARSED_CHARS:
        return None
    try:
        return parse(text, write_links=write_links)
    except (RecursionError, ValueError, LookupError):
        return None


def _pieces(rich: RichText, limit: int) -> list[RichText]:
    blocks = [(span.start, span.end) for span in rich.spans if span.type == "pre"]
    pieces = (rich.piece(*_without_indentation(rich, start, end)) for start, end in cuts(rich.text, limit, blocks))
    return [piece for piece in pieces if is_visible(piece.text)]


def _without_indentation(rich: RichText, start: int, end: int) -> tuple[int, int]:
    """Return where a part begins. Telegram trims, except for what stands in formatting: code keeps its indentation."""
    if any(span.type == "pre" and span.start <= start < span.end for span in rich.spans):
        return start, end
    text = rich.text[start:end]
    return end - len(text.lstrip()), end


def _tail(rich: RichText, limit: int) -> RichText:
    offsets = utf16_offsets(rich.text)
    if offsets[-1] <= limit:
        return rich
    room = offsets[-1] - limit + len(NOTHING)
    start = next(index for index, offset in enumerate(offsets) if offset >= room)
    tail = rich.piece(start, len(rich.text))
    return RichText(NOTHING + tail.text, tuple(_shifted(tail)))


def _shifted(tail: RichText) -> Iterator[Any]:
    for span in tail.spans:
        yield type(span)(span.type, span.start + len(NOTHING), span.end + len(NOTHING), span.url, span.language)


def _keeps(original: str, pieces: Sequence[RichText]) -> bool:
    """Return whether each character that is no markup is still there, in order."""
    shown = iter(_content("".join(piece.with_hidden() for piece in pieces)))
    return all(character in shown for character in _content(original))


def _content(text: str) -> str:
    return _MARKUP.sub("", clean(html.unescape(text)))


def _part(piece: RichText) -> Part:
    offsets = utf16_offsets(piece.text)
    entities = (
        Entity(span.type, offsets[span.start], offsets[span.end] - offsets[span.start], span.url, span.language) for span in piece.spans
    )
    return Part(piece.text, tuple(entities))
