"""Markdown as models write it, to text with formatting. What is not understood stays as it was written.

markdown-it-py reads it, and this module walks through the tokens. telegramify-markdown would have been ready-made, but it
loses what a reader should see (HTML, titles, cells beyond the width of a table, stars of a product, links without a text) and
makes links of addresses that Telegram refuses.
"""

import re
from collections.abc import Sequence
from typing import Final

from markdown_it.token import Token

from bot.channels.telegram.clean import clean
from bot.channels.telegram.keeping import keeps_all
from bot.channels.telegram.markdown_parser import make_parser
from bot.channels.telegram.spans import RichText
from bot.channels.telegram.table import aligned
from bot.channels.telegram.writer import Writer

BULLET: Final = "• "
RULE: Final = "———"
MAX_URL_CHARS: Final = 1024  # longer addresses stand in the text, where they count against the length of a message

# What Telegram takes as the address of a link. One that it does not take costs all formatting of the message, or the address.
# That of an e-mail it would read as a web page; where it stands in the text, people can click it.
_LINKABLE: Final = re.compile(
    r"https?://(?:[a-z0-9_-]+\.)+[a-z0-9_-]+(?::[1-9]\d{0,3})?(?:[/?#]\S*)?|tg://[a-z0-9_-]+(?:[/?]\S*)?", re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"[.:/#?@]")  # what stands in any address, but not in `list[0](x)`
_LANGUAGE: Final = re.compile(r"[\w+#.-]{1,32}")
_STYLES: Final = {"strong": "bold", "em": "italic", "s": "strikethrough"}
_PARSER: Final = make_parser()


def parse(markdown: str, *, write_links: bool = False) -> RichText:
    """Return the text and its formatting. With `write_links` the addresses of links stand in the text."""
    blocks = _Blocks(markdown.split("\n"), write_links=write_links)
    blocks.walk(_PARSER.parse(markdown))
    return blocks.writer.result()


class _Inlines:
    """What stands in a paragraph, a heading or a cell."""

    def __init__(self, writer: Writer, *, write_links: bool) -> None:
        self._writer = writer
        self._write_links = write_links
        self._links: list[tuple[int, Token]] = []

    def walk(self, tokens: Sequence[Token], line_break: str) -> None:
        for token in tokens:
            kind, _, edge = token.type.rpartition("_")
            if kind in _STYLES:
                (self._writer.begin if edge == "open" else self._writer.end)(_STYLES[kind])
            elif token.type == "link_open":
                self._begin_link(token)
            elif token.type == "link_close":
                self._finish_link(*self._links.pop())
            elif token.type == "image":
                self._image(token, line_break)
            else:
                self._text(token, line_break)

    def _text(self, token: Token, line_break: str) -> None:
        start = self._writer.length
        self._writer.write(line_break if token.type in {"softbreak", "hardbreak"} else token.content)
        if token.type == "code_inline":
            self._writer.mark("code", start)

    def _image(self, token: Token, line_break: str) -> None:
        start = self._writer.length
        self.walk(token.children or [], line_break)
        self._finish_link(start, token)

    def _begin_link(self, token: Token) -> None:
        if not _ADDRESS.search(_url(token)):
            self._writer.write("[")
        self._links.append((self._writer.length, token))

    def _finish_link(self, start: int, token: Token) -> None:
        """Make a link of what was written from `start` on; where there can be none, write the address behind it."""
        url, shown = _url(token), self._writer.since(start).strip()
        if token.markup == "autolink":
            return
        if token.type == "link_open" and not _ADDRESS.search(url):
            self._writer.write(f"]({url})")
        elif not shown:
            self._writer.write(url)
        elif self._can_link(url):
            self._writer.mark("text_link", start, url=url)
        else:
            self._writer.write(f" ({url})")
        if title := token.attrs.get("title"):
            self._writer.write(f' "{title}"')

    def _can_link(self, url: str) -> bool:
        is_free = not self._links and not self._write_links
        return is_free and len(url) <= MAX_URL_CHARS and _LINKABLE.fullmatch(url) is not None


class _Blocks:
    """Paragraphs, lists, quotes, code and tables, one below the other."""

    def __init__(self, lines: Sequence[str], *, write_links: bool) -> None:
        self.writer = Writer()
        self._inlines = _Inlines(self.writer, write_links=write_links)
        self._lines = lines
        self._indents: list[str] = []
        self._marker = ""  # of a list item that waits for its text
        self._is_fresh = True  # nothing stands in this block yet
        self._table: Token | None = None
        self._rows: list[list[str]] = []

    def walk(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "table_open":
                self._table = token
                self._rows.clear()
            elif token.type == "table_close":
                self._write_table()
            elif self._table is None:
                self._block(token)
            elif token.type == "tr_open":
                self._rows.append([])
            elif token.type == "inline":
                self._rows[-1].append(_cell(token))

    def _block(self, token: Token) -> None:
        match token.type:
            case "inline":
                self._inlines.walk(token.children or [], self._line_break)
                self._is_fresh = False
            case "paragraph_open":
                self._begin(token)
            case "heading_open":
                self._begin(token)
                self.writer.begin("bold")
            case "heading_close":
                self.writer.end("bold")
            case "blockquote_open":
                self._begin(token, own_line=True)
                self.writer.begin("blockquote")
            case "blockquote_close":
                self._write_marker()
                self.writer.end("blockquote")
                self._is_fresh = False
            case "list_item_open":
                self._begin_item(token)
            case "list_item_close":
                self._write_marker()
                self._is_fresh = False
                self._indents.pop()
            case "fence" | "code_block":
                self._code(token)
            case "formula" | "hr":
                self._begin(token, own_line=True)
                self._write(token.content or RULE)
            case _:
                pass

    def _begin(self, token: Token, *, own_line: bool = False) -> None:
        """Write what separates a block from the one above: as much as was written, nothing behind the marker of a list item."""
        had_marker = self._write_marker()
        if not self._is_fresh:
            self.writer.write("\n" if self._is_blank_above(token) else "")
            self.writer.write(self._line_break)
        elif had_marker and own_line:
            self.writer.write(self._line_break)
        self._is_fresh = True

    def _is_blank_above(self, token: Token) -> bool:
        first = token.map[0] if token.map else 0
        return first > 0 and not self._lines[first - 1].strip(" >")

    @property
    def _line_break(self) -> str:
        return "\n" + "".join(self._indents)

    def _begin_item(self, token: Token) -> None:
        self._begin(token)
        bullet = BULLET if token.markup in {"-", "*"} else token.markup + " "
        self._marker = f"{token.info}{token.markup} " if token.info else bullet
        self._indents.append("  ")

    def _write_marker(self) -> bool:
        marker, self._marker = self._marker, ""
        self.writer.write(marker)
        return bool(marker)

    def _write(self, text: str) -> None:
        self.writer.write(text)
        self._is_fresh = False

    def _code(self, token: Token) -> None:
        self._begin(token, own_line=True)
        info, code = token.info.strip(), token.content.strip("\n").rstrip()
        language = info if _LANGUAGE.fullmatch(info) and code else ""
        if info != language:
            self._write(f"{info}\n")
        self._monospace(code, language)

    def _write_table(self) -> None:
        """Write a table; as it was written if columns would not do it justice, or a row has more cells than the head."""
        table, self._table = self._table, None
        if table is None or table.map is None:
            return
        self._begin(table, own_line=True)
        source = "\n".join(self._lines[slice(*table.map)])
        shown = aligned(self._rows)
        self._monospace(shown if shown and keeps_all(source, shown) else source.strip())

    def _monospace(self, text: str, language: str = "") -> None:
        start = self.writer.length
        self._write(text)
        self.writer.mark("pre", start, language=language)


def _url(token: Token) -> str:
    return clean(str(token.attrs.get("href") or token.attrs.get("src") or ""))


def _cell(token: Token) -> str:
    writer = Writer()
    _Inlines(writer, write_links=True).walk(token.children or [], " ")
    return writer.since(0).replace("\n", " ").strip()
