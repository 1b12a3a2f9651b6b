"""Text from outside, made safe to print: control characters become visible, so nothing repaints a terminal or forges a log line."""

import unicodedata

_UNSAFE_CATEGORIES = frozenset(
    {"Cc", "Cf", "Cs", "Zl", "Zp"}
)  # controls, bidi and zero-width marks, surrogates, line and paragraph separators
_JOINERS = frozenset("\u200c\u200d")  # part of words in several scripts and of emoji


def escape_controls(text: str, *, keep: str = "") -> str:
    """Return `text` with every control, bidirectional or invisible character written as `\\xNN` or `\\uNNNN`, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep or char in _JOINERS or not _is_unsafe(char) else _escape(char) for char in text)


def _is_unsafe(char: str) -> bool:
    return unicodedata.category(char) in _UNSAFE_CATEGORIES


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
