"""Texts without what nobody wrote for a reader: control characters, markup, templating tags, misread encodings.

`mend` says what it did, `defect` why a text cannot be mended. Both are pure, and mending twice changes nothing more.
"""

import html
import re
from collections.abc import Callable
from typing import Final

from dialogue.normalise import clean_text
from finetune.cleaning.spans import PLACEHOLDER

MAX_CHARS: Final = 1 << 20  # of one text; no turn of a dialogue is longer

_TAGS: Final = (
    "a|abbr|article|aside|b|blockquote|body|br|button|caption|center|cite|code|dd|del|details|div|dl|dt|em|figcaption|figure|font|footer|form|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|mark|meta|nav|ol|option|p|pre|q|s|samp|script|section|select|small|"
    "span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|var|video"
)
_UNSEEN: Final = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_BREAK: Final = re.compile(r"<br\s*/?>|</(?:p|div|li|tr|h[1-6]|ul|ol|table|blockquote)\s*>", re.IGNORECASE)
_TAG: Final = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_TEMPLATING: Final = re.compile(r"\{%.*?%\}|\{#.*?#\}|\{:[^{}\n]*\}|<%.*?%>|\{\{[<%].*?[%>]\}\}", re.DOTALL)
_BLANKS: Final = re.compile(r"[\u00a0\u2000-\u200a\u202f]")
_LINE_ENDS: Final = re.compile(r"[ \t]*(?:\r\n?|(?<=[ \t])\n)")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")
_NO_WORD: Final = re.compile(r"[\W_]+")

# What a program should have filled in. A word in simple braces or brackets counts only where it looks like the name of a field.
_UNFILLED: Final = re.compile(
    r"\{\{[^{}\n]{1,60}\}\}|\[\[[^\[\]\n]{1,60}\]\]|\$\{\w[\w .]{0,40}\}|%\(\w+\)s"
    r"|<[A-Z]{2,}(?:[_ ][A-Z]+)*>|\{[a-z]+(?:_[a-z]+)+\}|\{[A-Z][A-Z_]{2,}\}"
    r"|\{(?i:name|order|email|customer|company|date|product|account|phone|address)\}"
    r"|\[(?i:your|insert|enter|customer|company|order|agent|product|recipient|first|last)\b[^\[\]\n]{0,40}\](?!\()"
)


def mend(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text without what is no text, and what was done to it."""
    if len(text) > MAX_CHARS:
        return text, ()
    done: dict[str, None] = {}
    before = None
    while before != text:  # an entity may hide a tag, and a control character may split one
        before = text
        for reason, step in _STEPS:
            after = step(text)
            if after != text:
                done[reason] = None
                text = after
    return text, tuple(done)


def defect(text: str) -> str:
    """Return why a mended text is of no use, "" when it is."""
    if len(text) > MAX_CHARS:
        return "text too long"
    return "broken characters" if "\ufffd" in text else ""


def has_placeholder(text: str) -> bool:
    """Whether a template was not filled in. Placeholders of personal data are none."""
    return _UNFILLED.search(PLACEHOLDER.sub("", text)) is not None


def fold(text: str) -> str:
    """Return the words of a text for comparing: no case, no punctuation, one space between them."""
    return _NO_WORD.sub(" ", text.casefold()).strip()


def _read_right(text: str) -> str:
    """Undo UTF-8 that was read as Windows-1252. Text that was not so mistreated is hardly ever valid UTF-8 in those bytes."""
    if text.isascii():
        return text
    try:
        return text.encode("cp1252").decode()
    except UnicodeError:
        return text


def _without_unseen(text: str) -> str:
    return clean_text(text, MAX_CHARS).text


def _without_markup(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    text = _TAG.sub("", _BREAK.sub("\n", _UNSEEN.sub("", text)))
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


def _without_templating(text: str) -> str:
    return _TEMPLATING.sub("", text)


def _without_blanks(text: str) -> str:
    return _EMPTY_LINES.sub("\n\n", _LINE_ENDS.sub("\n", _BLANKS.sub(" ", text))).strip()


_STEPS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("encoding mended", _read_right),
    ("white space trimmed", _without_blanks),
    ("control characters removed", _without_unseen),
    ("HTML removed", _without_markup),
    ("templating tags removed", _without_templating),
    ("white space trimmed", _without_blanks),
)
