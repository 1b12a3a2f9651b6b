"""Which Markdown is read as such. Models write it by ear, so what could as well be meant literally stays as it was written.

Left alone are HTML, definitions of links (they would vanish), underlined headings (a line of text above a rule), formulas,
and stars between letters or digits (products and powers). Two stars count next to Chinese and Japanese too, whose punctuation
has no blanks around it: **注意：**请.
"""

import re
import unicodedata
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline, emphasis, image, link

from bot.channels.telegram.table_rule import table_rule

_STAR: Final = ord("*")
_ESCAPABLE: Final = frozenset("\\`*_~#+-.!|><\"'&:")  # without brackets of all kinds, which begin formulas
_FORMULA: Final = re.compile(r"\\\(.+?\\\)|\\\[.+?\\\]|\$\$.+?\$\$|\$(?![\s$])[^$\n]*(?<![\s\\])\$(?!\d)", re.DOTALL)
_FORMULA_ENDS: Final = {"$$": "$$", r"\[": r"\]"}
_LONGEST_FORMULA: Final = 1000  # characters; how far is looked for the end of one
_LONGEST_LABEL: Final = 1000  # characters; how far is looked for the address of a link


class LiteralMarkdown(MarkdownIt):
    """Addresses stay as they were written; whether they become links is not for the parser to say."""

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - how the parser calls it
        return url

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802
        return link

    def validateLink(self, url: str) -> bool:  # noqa: N802, ARG002
        return True


def make_parser() -> MarkdownIt:
    """Return a parser for Markdown as described above."""
    parser = LiteralMarkdown("commonmark", {"html": False})
    parser.enable(["table", "strikethrough"]).disable(["reference", "lheading"])
    parser.block.ruler.at("table", table_rule, {"alt": ["paragraph", "reference"]})
    parser.inline.ruler.at("escape", _escape)
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.inline.ruler.before("emphasis", "operator", _operator)
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.inline.ruler.at("link", _link)
    parser.inline.ruler.at("image", _image)
    parser.block.ruler.before("code", "formula", _formula_block, {"alt": ["paragraph"]})
    return parser


def _escape(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - how the parser calls its rules
    """Take the backslash from in front of markup only: it stands in formulas and paths too."""
    following = state.src[state.pos + 1 : state.pos + 2]
    if state.src[state.pos] != "\\" or not following or following.isalnum() or following.isspace():
        return False
    return _literally(state, 2, following if following in _ESCAPABLE else "\\" + following, silent=silent)


def _formula(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    if state.src[state.pos] not in "\\$":
        return False
    found = _FORMULA.match(state.src, state.pos, min(state.posMax, state.pos + _LONGEST_FORMULA))
    return found is not None and _literally(state, len(found[0]), found[0], silent=silent)


def _operator(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Keep the stars of 2*3*4, 长*宽 and 2**8."""
    start, stop = state.pos, state.pos
    while stop < state.posMax and state.src[stop] == "*":
        stop += 1
    neighbours = state.src[max(0, start - 1) : start] + state.src[stop : stop + 1]
    if start == stop or len(neighbours) < 2 or not neighbours.isalnum():
        return False
    if stop - start > 1 and not neighbours.isascii():
        return False
    return _literally(state, stop - start, state.src[start:stop], silent=silent)


def _emphasis(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    """Let stars beside wide characters begin and end what they touch, whether those are letters or punctuation."""
    known, before = len(state.delimiters), state.src[state.pos - 1 : state.pos]
    if not emphasis.tokenize(state, silent):
        return False
    after = state.src[state.pos : state.pos + 1]
    for delimiter in state.delimiters[known:]:
        if delimiter.marker == _STAR and (_is_wide(before) or _is_wide(after)):
            delimiter.open = bool(after.strip())
            delimiter.close = bool(before.strip())
    return True


def _link(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    return _has_address(state) and link(state, silent)


def _image(state: StateInline, silent: bool) -> bool:  # noqa: FBT001
    return _has_address(state) and image(state, silent)


def _has_address(state: StateInline) -> bool:
    """Whether a bracket begins here and an address follows near enough: to find the end of each of a thousand brackets takes long."""
    return state.src[state.pos] in "![" and "](" in state.src[state.pos : state.pos + _LONGEST_LABEL]


def _is_wide(character: str) -> bool:
    return bool(character) and unicodedata.east_asian_width(character) in "WF"


def _literally(state: StateInline, length: int, text: str, *, silent: bool) -> bool:
    if not silent:
        state.pending += text
    state.pos += length
    return True


def _formula_block(state: StateBlock, first: int, last: int, silent: bool) -> bool:  # noqa: FBT001
    """Keep a formula whose brackets stand alone on their lines: a line in it may look like a list."""
    end = _FORMULA_ENDS.get(_line(state, first))
    if end is None or state.is_code_block(first):
        return False
    closing = next((line for line in range(first + 1, min(last, first + 50)) if _line(state, line) == end), None)
    if closing is None or any(state.sCount[line] < state.blkIndent for line in range(first, closing)):
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = state.getLines(first, closing + 1, state.blkIndent, keepLastLF=False)
        token.map = [first, closing + 1]
        state.line = closing + 1
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].strip()
