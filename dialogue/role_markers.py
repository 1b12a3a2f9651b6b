"""Role markers that are mere text, and how content is kept from looking like one.

Most chat templates mark turns with control tokens, which no content can produce. Some write words instead:

    User: …
    Assistant: …

There, a line of content that begins with "Assistant:" would read like a turn. `RoleMarkers` finds such markers in the
structure that the template wrote, and breaks them in content by a space before their last character ("Assistant :").
Words that the template puts at the beginning of a line are broken there; all others ("[/INST]", "### Response:", a word in
the middle of a line) anywhere.
"""

import re
from collections.abc import Sequence

from dialogue.normalise import strip_invisible

_BREAKS = "\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_MAX_MARKER = 64  # longer lines of a template are sentences, not markers
_TAG = re.compile(r"<{1,2}[^<>\s][^<>]*>{1,2}|\[[^\[\]\s][^\[\]]*\]")  # such as <<SYS>> and [INST]
_FULL_WIDTH = 0xFEE0  # from "!" to its full-width form


class RoleMarkers:
    """The markers of one template."""

    def __init__(self, structure: Sequence[str]) -> None:
        """Find the markers in `structure`: the pieces of text that the template wrote, from the beginning of the prompt."""
        places = [(line.strip(), row > 0 or piece == 0) for piece, text in enumerate(structure) for row, line in enumerate(_lines(text))]
        places += [(tag, False) for line, _ in places for tag in _TAG.findall(line)]
        markers = {marker for marker, _ in places if len(marker) <= _MAX_MARKER and any(character.isalnum() for character in marker)}
        self.markers = tuple(sorted(markers, key=lambda marker: (-len(marker), marker)))
        inline = {marker for marker, begins_line in places if not begins_line or not marker[:1].isalnum()}
        self.stop_texts = tuple(marker if marker in inline else f"\n{marker}" for marker in self.markers)
        self._patterns = [re.compile(_pattern(text), re.IGNORECASE) for text in self.stop_texts]

    def defuse(self, text: str) -> str:
        """Return `text` without invisible characters and with its markers broken."""
        text = strip_invisible(text)
        for pattern in self._patterns:  # one after the other: a marker may be part of a longer one
            text = pattern.sub(lambda match: f"{match[0][:-1]} {match[0][-1]}", text)
        return text


def _lines(text: str) -> list[str]:
    return re.split(f"[{_BREAKS}]", text)


def _pattern(stop_text: str) -> str:
    marker = stop_text.removeprefix("\n")
    spelled = "".join(_spellings(character) for character in re.sub(r"\s+", " ", marker))
    return spelled if marker == stop_text else rf"(?:\A|(?<=[{_BREAKS}]))[^\S{_BREAKS}]*{spelled}"


def _spellings(character: str) -> str:
    if character == " ":
        return r"\s+"
    wide = chr(ord(character) + _FULL_WIDTH) if "!" <= character <= "~" else ""
    return f"[{re.escape(character)}{wide}]"
