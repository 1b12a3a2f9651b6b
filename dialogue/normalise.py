"""Text hygiene: what people and models write, without what cannot be seen.

`clean_text` runs where text comes in and where a prompt is built; `escape_control` where text goes to a terminal or log.
Both know Unicode only: no channel, no prompt.
"""

import re
import unicodedata
from dataclasses import dataclass

_MAX_MARKS = 30  # combining marks in a row; Unicode's stream-safe text format (UAX 15) has the same limit

# Extended_Pictographic, nearly, with the skin tones and regional indicators that join emoji
_EMOJI = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff\U0001fc00-\U0001fffd"
)
# Scripts that need the joiners to be spelled: Arabic, Syriac, Thaana, N'Ko; the Indic ones to Sinhala; Tibetan, Myanmar;
# Khmer, Mongolian; Balinese and neighbours; Arabic presentation forms
_JOINING = (
    "\u0600-\u07ff\u0840-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1b00-\u1bff\ua840-\ua9ff\uaa00-\uaaff"
    "\ufb50-\ufdff\ufe70-\ufefc\U00011000-\U000117ff"
)
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_LINE_BREAKS = re.compile("\r\n?|[\u0085\u2028\u2029]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f"
# What is kept stands first, so that the last alternative is what goes.
_KEPT = (
    f"(?P<keep>(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f))\u200d(?=[{_EMOJI}])|(?<=[{_EMOJI}])[\ufe0e\ufe0f]"
    f"|(?<=[0-9#*])\ufe0f(?=\u20e3)|(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}]))"
)
_FILTER = re.compile(f"{_KEPT}|[{_CONTROL}{_INVISIBLE}]")
_ESCAPED = re.compile(f"{_KEPT}|[\t\n\u2028\u2029{_CONTROL}\ud800-\udfff{_INVISIBLE}]")


@dataclass(frozen=True, slots=True)
class CleanText:
    """Text without control and invisible characters, in composed form (NFC)."""

    text: str
    cut: int  # characters that went because of the length limit; 0 = all is there


def clean_text(text: str, limit: int) -> CleanText:
    """Return `text` without what cannot be seen, at most `limit` characters long.

    Line breaks become "\\n"; other control characters but tab, bidirectional controls, tags, and zero-width characters go,
    except joiners and variation selectors inside emoji and joiners between letters of scripts that need them. Lone
    surrogates become U+FFFD. At most 30 combining marks stand in a row. Cleaning twice changes nothing more.
    """
    looked_at = text[: 4 * limit + 64]  # what is dropped seldom outweighs what stays; bounds the work on a flood
    cleaned = _LINE_BREAKS.sub("\n", _LONE_SURROGATE.sub("\ufffd", looked_at))
    # Removing a character can bring neighbours together that compose, and composing can change neighbours
    cleaned = _limit_marks(unicodedata.normalize("NFC", _limit_marks(strip_invisible(cleaned))))
    kept = strip_invisible(cleaned[:limit])
    return CleanText(kept, max(0, len(cleaned) - limit) + len(text) - len(looked_at))


def strip_invisible(text: str) -> str:
    """Return `text` without control characters (but tab and line feed) and invisible ones, as `clean_text` says."""
    return _FILTER.sub(lambda match: match["keep"] or "", text)


def escape_control(text: str, *, keep: str = "") -> str:
    """Return `text` with every control, invisible or bidirectional character and lone surrogate in visible form (`\\x1b`).

    `keep` names control characters that stay; emoji and the scripts that need joiners stay whole. A terminal then shows
    the text and does nothing else.
    """
    if text.isascii() and text.isprintable():  # nearly every log line
        return text
    return _ESCAPED.sub(lambda match: match["keep"] or (match[0] if match[0] in keep else _escape(match[0])), text)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _limit_marks(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    return "".join(kept)
