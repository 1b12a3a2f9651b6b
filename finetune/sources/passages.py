"""Help articles as plain text: sentences and list items, so that a passage is cut and quoted at their borders.

Formatting goes, the words stay: an answer that quotes the passage is text that a customer can read anywhere.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_BLOCK_HTML: Final = re.compile(
    r"</?(?:div|h\d|button|ol|ul|li|p|table|svg|span|br)\b[^>]*>|\{%.*?%\}|<!--.*?-->", re.IGNORECASE | re.DOTALL
)
_ATTRIBUTES: Final = re.compile(r"\{:[^}\n]*\}")
_IMAGE: Final = re.compile(r"!\[[^\]\n]*\]\([^)\n]*\)")
_LINK: Final = re.compile(r"\[([^\]\n]*)\]\(([^)\s]*)[^)\n]*\)")
_AUTOLINK: Final = re.compile(r"<((?:https?://|mailto:)[^>\s]+)>")
_EMPHASIS: Final = re.compile(r"(\*\*|__|(?<![\w*])[*_]|`)(?=\S)(.+?)(?<=\S)\1(?![\w*])")
_ITEM: Final = re.compile(r"^\s*(?:([-*+])|(\d{1,2})[.)])\s+(?=\S)")
_NO_TEXT: Final = re.compile(r"^\s*(?:\||-{3,}|={3,}|```|~~~|\*{3,})")
_SENTENCE_END: Final = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bU\.S\.)(?<!\bNo\.)\s+(?=[\"“'‘(\[]?[^\W_a-z])|(?<=[。！？])(?=.)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or a list item."""

    text: str  # with its number or bullet, if it is an item
    is_item: bool
    begins_line: bool


def read_units(markdown: str) -> list[Unit]:
    """Return the sentences and list items of a text, without headings; a sentence that is said again is left out."""
    units: list[Unit] = []
    said: set[str] = set()
    for line, is_item in _numbered(_lines(_plain(markdown))):
        sentences = [line] if is_item else _SENTENCE_END.split(line)
        for sentence in (each.strip() for each in sentences):
            if sentence and (is_item or sentence not in said):
                units.append(Unit(sentence, is_item, sentence == line or line.startswith(sentence)))
                said.add(sentence)
    return units


def show(units: Sequence[Unit]) -> str:
    """Return the units as a text: items on lines of their own."""
    text = ""
    for unit in units:
        joint = "\n" if unit.begins_line else ("" if text.endswith(("。", "！", "？")) else " ")
        text += (joint if text else "") + unit.text
    return text


def cut(units: Sequence[Unit], limit: int) -> Sequence[Unit]:
    """Return the first units whose text has at most `limit` characters."""
    end = len(units)
    while end and len(show(units[:end])) > limit:
        end -= 1
    return units[:end]


def plain_line(markdown: str) -> str:
    """Return a heading without formatting."""
    return " ".join(_plain(markdown).split())


def _plain(markdown: str) -> str:
    text = _ATTRIBUTES.sub("", _BLOCK_HTML.sub("\n", _AUTOLINK.sub(r"\1", _IMAGE.sub("", markdown))))
    text = _LINK.sub(_said, text)
    while (less := _EMPHASIS.sub(r"\2", text)) != text:
        text = less
    return html.unescape(text).replace("\u00a0", " ").replace("\u2011", "-")


def _said(link: re.Match[str]) -> str:
    """Return a link's words, and its address where that leads somewhere from outside of the help pages."""
    words, address = link[1].strip(), link[2]
    if not address.startswith(("http://", "https://")) or words in address:
        return words
    return f"{words} ({address})"


def _lines(text: str) -> Iterator[str]:
    """Yield paragraphs and list items, each as one line: what is wrapped or indented below an item belongs to it."""
    line = ""
    for raw in [*text.splitlines(), ""]:
        stripped = raw.strip()
        begins = not stripped or _ITEM.match(raw) or _NO_TEXT.match(raw) or stripped.startswith(("#", ">"))
        if begins and line:
            yield line
            line = ""
        if stripped and not _NO_TEXT.match(raw) and not stripped.startswith("#"):
            line = f"{line} {stripped}" if line else stripped.lstrip("> ")


def _numbered(lines: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Yield each line and whether it is an item. Numbers count on: Markdown lets writers leave them all at 1."""
    number, ended = 0, False
    for line in lines:
        item = _ITEM.match(line)
        if item is None:
            ended = True
            yield line, False
        elif item[2] is None:
            yield f"- {line[item.end() :]}", True
        else:
            number = 1 if ended and item[2] == "1" else number + 1
            ended = False
            yield f"{number}. {line[item.end() :]}", True
