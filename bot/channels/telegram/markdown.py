"""Markdown as models write it, to text with formatting. What is not understood stays as it was written.

markdown-it-py reads it. telegramify-markdown would have been ready-made, but it drops what a reader should see: definitions of
reference links, cells beyond the width of a table, titles, the addresses of links that Telegram does not take.
"""

import re
from collections.abc import Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from bot.channels.telegram.clean import clean
from bot.channels.telegram.spans import RichText, Span, nestable
from bot.channels.telegram.table import aligned

BULLET: Final = "• "
RULE: Final = "———"
MAX_URL_CHARS: Final = 1024

_LINKABLE: Final = re.compile(r"(?:https?://[^\s/?#@]+\.[^\s/?#@]+|tg://\S|mailto:[^\s@]+@[^\s@])\S*", re.IGNORECASE)
_LANGUAGE: Final = re.compile(r"[\w+#.-]{1,32}")
_ESCAPABLE: Final = frozenset("\\`*_~#+-.!|><\"'&:")  # without brackets of all kinds, which begin formulas
_STYLES: Final = {"strong": "bold", "em": "italic", "s": "strikethrough"}


def parse(markdown: str, *, write_links: bool = False) -> RichText:
    """Return the text and its formatting. With `write_links` the addresses of links stand in the text."""
    walk = _Walk(markdown.split("\n"), write_links=write_links)
    walk.blocks(_PARSER.parse(markdown))
    return walk.result()


def _escape(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - the signature of the parser's rules
    """Take the backslash from in front of markup only: it stands in formulas and paths too."""
    following = state.src[state.pos + 1 : state.pos + 2]
    if state.src[state.pos] != "\\" or not following or following.isalnum() or following.isspace():
        return False
    if not silent:
        state.pending += following if following in _ESCAPABLE else "\\" + following
    state.pos += 2
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")
    parser.inline.ruler.at("escape", _escape)
    parser.normalizeLink = parser.normalizeLinkText = lambda url: url
    parser.validateLink = lambda url: True
    return parser


_PARSER: Final = _parser()


class _Walk:
    """Goes once through the tokens and collects text and spans."""

    def __init__(self, lines: Sequence[str], *, write_links: bool) -> None:
        self._lines = lines
        self._write_links = write_links
        self._pieces: list[str] = []
        self._length = 0
        self._spans: list[Span] = []
        self._open: list[tuple[str, int]] = []  # styles and quotes that have begun
        self._links: list[tuple[int, str, str]] = []
        self._indent: list[str] = []
        self._marker = ""  # stands in front of the next block: that of a list item

    def result(self) -> RichText:
        return RichText("".join(self._pieces), tuple(nestable(self._spans)))

    def blocks(self, tokens: Sequence[Token]) -> None:
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.type == "table_open":
                position = self._table(tokens, position)
            else:
                self._block(token)
            position += 1

    def _block(self, token: Token) -> None:
        match token.type:
            case "inline":
                self._inline(token.children or [])
            case "paragraph_open":
                self._begin_block(token)
            case "heading_open":
                self._begin_block(token)
                self._begin("bold")
            case "heading_close":
                self._end("bold")
            case "blockquote_open":
                self._begin_block(token)
                self._begin("blockquote")
            case "blockquote_close":
                self._flush_marker()
                self._end("blockquote")
            case "list_item_open":
                self._begin_item(token)
            case "list_item_close":
                self._flush_marker()
                self._indent.pop()
            case "fence" | "code_block":
                self._code_block(token)
            case "hr":
                self._begin_block(token)
                self._write(RULE)
            case _:
                pass

    def _begin_block(self, token: Token) -> None:
        """Write the border to the block before, as wide as it was written, and the marker of a list item that waits for its text."""
        if self._marker:
            self._flush_marker()
        elif self._length and not self._at_block_start():
            first = token.map[0] if token.map else 0
            above = self._lines[first - 1] if first else ""
            self._write("\n" if above.strip(" >\t") else "\n\n")
            self._write("".join(self._indent))

    def _at_block_start(self) -> bool:
        last = self._pieces[-1]
        return last.endswith(("\n", BULLET)) or any(kind == "blockquote" and start == self._length for kind, start in self._open)

    def _begin_item(self, token: Token) -> None:
        self._flush_marker()
        self._begin_block(token)
        marker = f"{token.info}{token.markup} " if token.info else BULLET
        self._marker = marker
        self._indent.append("  ")

    def _flush_marker(self) -> None:
        marker, self._marker = self._marker, ""
        if marker:
            self._write(marker)

    def _code_block(self, token: Token) -> None:
        info = token.info.strip()
        self._begin_block(token)
        words = info.split()
        language = words[0] if words and _LANGUAGE.fullmatch(words[0]) else ""
        if info != language:
            self._write(info + "\n")
        self._preformatted(token.content, language)

    def _preformatted(self, code: str, language: str = "") -> None:
        start = self._length
        self._write(code.strip("\n").rstrip() or (language and " "))
        self._spans.append(Span("pre", start, self._length, language=language))

    def _table(self, tokens: Sequence[Token], position: int) -> int:
        """Write a table as monospace; return where its last token is."""
        opening = tokens[position]
        self._begin_block(opening)
        rows: list[list[str]] = []
        while tokens[position].type != "table_close":
            token = tokens[position]
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(_plain_cell(token))
            position += 1
        first, last = opening.map or (0, 0)
        self._preformatted(aligned(rows, self._lines[first:last]))
        return position

    def _inline(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            kind, _, edge = token.type.rpartition("_")
            if kind in _STYLES:
                (self._begin if edge == "open" else self._end)(_STYLES[kind])
            elif token.type == "link_open":
                self._links.append((self._length, *_destination(token, "href")))
            elif token.type == "link_close":
                self._close_link()
            elif token.type == "image":
                self._image(token)
            elif token.type == "code_inline":
                start = self._length
                self._write(token.content)
                self._spans.append(Span("code", start, self._length))
            elif token.type in {"softbreak", "hardbreak"}:
                self._write("\n" + "".join(self._indent))
            else:
                self._write(token.content)

    def _image(self, token: Token) -> None:
        start = self._length
        self._inline(token.children or [])
        self._finish_link(start, *_destination(token, "src"))

    def _close_link(self) -> None:
        self._finish_link(*self._links.pop())

    def _finish_link(self, start: int, url: str, title: str) -> None:
        shown = self._since(start)
        if not shown.strip():
            self._write(url)
        elif shown != url and url:
            if self._can_link(url):
                self._spans.append(Span("text_link", start, self._length, url=url))
            else:
                self._write(f" ({url})")
        if title:
            self._write(f' "{title}"')

    def _can_link(self, url: str) -> bool:
        is_free = not self._links and not self._write_links
        return is_free and len(url) <= MAX_URL_CHARS and _LINKABLE.fullmatch(url) is not None

    def _since(self, start: int) -> str:
        """Return what was written behind `start`."""
        parts, length = [], self._length
        for piece in reversed(self._pieces):
            if length <= start:
                break
            parts.append(piece)
            length -= len(piece)
        return "".join(reversed(parts))

    def _begin(self, kind: str) -> None:
        self._open.append((kind, self._length))

    def _end(self, kind: str) -> None:
        """End the innermost of a kind; it counts if it was the outermost too, since a kind does not nest in itself."""
        position = max(index for index, (name, _) in enumerate(self._open) if name == kind)
        _, start = self._open.pop(position)
        if start < self._length and all(name != kind for name, _ in self._open):
            self._spans.append(Span(kind, start, self._length))

    def _write(self, text: str) -> None:
        text = clean(text)
        if text:
            self._pieces.append(text)
            self._length += len(text)


def _destination(token: Token, name: str) -> tuple[str, str]:
    return clean(str(token.attrs.get(name, ""))), str(token.attrs.get("title", ""))


def _plain_cell(token: Token) -> str:
    walk = _Walk((), write_links=True)
    walk._inline(token.children or [])  # noqa: SLF001 - its own kind
    return walk.result().text.replace("\n", " ").strip()
