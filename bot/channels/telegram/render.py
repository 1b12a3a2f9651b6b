"""Answers of the model as Telegram shows them: messages with formatting, of which no character of the answer is lost.

The promise holds by construction: what was rendered is compared with what was written, and if anything is missing the answer
is shown as it was written. The same text gives the same parts in every process, since a later one may repeat a delivery.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from bot.channels.telegram.clean import clean, is_visible
from bot.channels.telegram.keeping import keeps_all
from bot.channels.telegram.markdown import parse
from bot.channels.telegram.spans import RichText
from bot.channels.telegram.split import cuts
from bot.channels.telegram.utf16 import utf16_length, utf16_offsets

TEXT_LIMIT: Final = 4096  # UTF-16 units of a message
MAX_PARSED_CHARS: Final = 20_000  # longer texts are shown as they are: reading them could take long
PREVIEW_CHARS: Final = 8192  # of the end of a text: with its markup, as much as one message holds
NOTHING: Final = "…"

_SPARE: Final = 64  # this part of a message is left free for the language of code that began in the message before
_FENCE: Final = re.compile(r"^ *(?:```|~~~).*", re.MULTILINE)
_BEGUN_STAR: Final = re.compile(r"(?<!\S)\*{1,3}$")


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

    def written_out(self) -> str:
        """Return the text with what only its formatting holds: languages in front of code, addresses behind links."""
        inserts = [(entity.offset, f"{entity.language}\n") for entity in self.entities if entity.language]
        inserts += [(entity.offset + entity.length, f" ({entity.url})") for entity in self.entities if entity.url]
        units, done, pieces = self.text.encode("utf-16-le"), 0, list[str]()
        for place, insert in sorted(inserts, key=itemgetter(0)):
            pieces += [units[2 * done : 2 * place].decode("utf-16-le"), insert]
            done = place
        return "".join([*pieces, units[2 * done :].decode("utf-16-le")])


def render(markdown: str, *, limit: int = TEXT_LIMIT) -> tuple[Part, ...]:
    """Return the answer as one or more messages of up to `limit` UTF-16 units, 2 at least.

    Without its formatting nothing is lost either: each message has room for its text written out, a single one at least for the original.
    """
    original = clean(markdown)
    whole = (parts for parts in _formatted(original, limit) if parts and _holds_all(original, parts, limit))
    return next(whole, None) or plain(markdown, limit=limit)


def plain(text: str, *, limit: int = TEXT_LIMIT) -> tuple[Part, ...]:
    """Return the text as it was written, without formatting."""
    return tuple(map(_part, _pieces(RichText(clean(text)), limit))) or (Part(NOTHING),)


def preview(markdown: str, *, limit: int = TEXT_LIMIT) -> Part:
    """Return as much of a text that is still being written as one message holds: its end."""
    end = clean(_end(markdown))
    rich = _parsed(_closed(end)) or RichText(end)
    pieces = _pieces(_tail(rich, limit, is_all=len(markdown) <= PREVIEW_CHARS), limit)
    return _part(pieces[0]) if pieces else Part(NOTHING)


def _formatted(original: str, limit: int) -> Iterator[tuple[Part, ...]]:
    """Yield ways to show a text, the best one first."""
    for write_links in (False, True):  # one message cannot have more than a hundred links
        rich = _parsed(original, write_links=write_links)
        if rich is not None:
            yield tuple(map(_part, _pieces(rich, limit)))
            yield tuple(map(_part, _pieces(rich, limit - limit // _SPARE, _written_offsets(rich))))


def _holds_all(original: str, parts: Sequence[Part], limit: int) -> bool:
    written = [part.written_out() for part in parts]
    fits = all(utf16_length(text) <= limit for text in written)
    return keeps_all(original, "".join(written)) and (fits or (len(parts) == 1 and utf16_length(original) <= limit))


def _parsed(text: str, *, write_links: bool = False) -> RichText | None:
    """Return the formatted text, or None for one that is too long for the parser or too much for it."""
    if len(text) > MAX_PARSED_CHARS:
        return None
    try:
        return parse(text, write_links=write_links)
    except (RecursionError, ValueError, LookupError):
        return None


def _end(text: str) -> str:
    """Return the end of a long text, if possible from a block on; a block of code that it is in the middle of is opened again."""
    if len(text) <= PREVIEW_CHARS:
        return text
    earliest = len(text) - PREVIEW_CHARS
    start = max(earliest, text.find("\n\n", earliest, earliest + PREVIEW_CHARS // 4))
    fences = _FENCE.findall(text, 0, start)
    return f"{fences[-1]}\n{text[start:]}" if len(fences) % 2 else text[start:]


def _closed(text: str) -> str:
    """Return an unfinished text with an end to the bold or code that it is in the middle of."""
    if len(_FENCE.findall(text)) % 2:
        return text
    bare = text.rstrip("* \n")
    last = bare.rpartition("\n\n")[2]
    if last.count("`") % 2:
        return bare + "`"
    is_in_bold = "".join(last.split("`")[::2]).count("**") % 2 == 1
    return bare + "**" if is_in_bold else _BEGUN_STAR.sub("", text)


def _pieces(rich: RichText, limit: int, offsets: Sequence[int] | None = None) -> list[RichText]:
    """Return the text cut into messages; `offsets` of its characters count what else has to fit in."""
    blocks = [(span.start, span.end) for span in rich.spans if span.type == "pre"]
    ranges = cuts(rich.text, offsets or utf16_offsets(rich.text), limit, blocks)
    pieces = (rich.piece(_first_shown(rich, start, end, blocks), end) for start, end in ranges)
    return [piece for piece in pieces if is_visible(piece.text)]


def _written_offsets(rich: RichText) -> Sequence[int]:
    """Return the UTF-16 offsets of the characters, had the text its addresses and languages written out (`Part.written_out`)."""
    added = [0] * (len(rich.text) + 1)
    for span in rich.spans:
        added[span.end] += utf16_length(f" ({span.url})") if span.url else 0
        added[span.start + 1] += utf16_length(f"{span.language}\n") if span.language else 0
    return [offset + more for offset, more in zip(utf16_offsets(rich.text), accumulate(added), strict=True)]


def _first_shown(rich: RichText, start: int, end: int, blocks: Sequence[tuple[int, int]]) -> int:
    """Return where a part begins. Telegram trims all but what stands in formatting: code keeps its indentation."""
    if any(first <= start < last for first, last in blocks):
        return start
    return end - len(rich.text[start:end].lstrip())


def _tail(rich: RichText, limit: int, *, is_all: bool) -> RichText:
    """Return the end of a text, behind an ellipsis if it is not all."""
    offsets = utf16_offsets(rich.text)
    if is_all and offsets[-1] <= limit:
        return rich
    room = offsets[-1] - limit + len(NOTHING)
    start = next(index for index, offset in enumerate(offsets) if offset >= room)
    tail = rich.piece(start, len(rich.text))
    moved = (replace(span, start=span.start + len(NOTHING), end=span.end + len(NOTHING)) for span in tail.spans)
    return RichText(NOTHING + tail.text, tuple(moved))


def _part(piece: RichText) -> Part:
    offsets = utf16_offsets(piece.text)
    entities = (
        Entity(span.type, offsets[span.start], offsets[span.end] - offsets[span.start], span.url, span.language) for span in piece.spans
    )
    return Part(piece.text, tuple(entities))
