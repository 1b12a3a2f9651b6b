"""Role markers that are mere text, and how content is kept from looking like one.

Most chat templates mark turns with control tokens, which no content can produce. Some write words instead:

    User: …
    Assistant: …

There, a line of content that begins with "Assistant:" would read like a turn. `RoleMarkers` finds such markers in the
structure that the template wrote, and breaks them in content by a space before their last character ("Assistant :").
Markers that begin with a letter are broken at the beginning of a line, others ("[/INST]", "### Response:") anywhere.
"""

import re
from collections.abc import Iterable

from dialogue.normalise import strip_invisible

_BREAKS = "\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_MAX_MARKER = 64  # longer lines of a template are sentences, not markers
_FULL_WIDTH = 0xFEE0  # from "!" to its full-width form


class RoleMarkers:
    """The markers of one template."""

    def __init__(self, structure: Iterable[str]) -> None:
        """Find the markers in `structure`, the pieces of text that the template wrote around contents."""
        lines = (line.strip() for piece in structure for line in re.split(f"[{_BREAKS}]", piece))
        found = {line for line in lines if len(line) <= _MAX_MARKER and any(character.isalnum() for character in line)}
        self.markers = tuple(sorted(found, key=lambda marker: (-len(marker), marker)))
        self._pattern = re.compile("|".join(map(_pattern, self.markers)) or "(?!)", re.IGNORECASE)

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """What ends a reply, because the model goes on to write another turn after it."""
        return tuple(f"\n{marker}" if marker[0].isalnum() else marker for marker in self.markers)

    def defuse(self, text: str) -> str:
        """Return `text` without invisible characters and with its markers broken."""
        return self._pattern.sub(lambda match: f"{match[0][:-1]} {match[0][-1]}", strip_invisible(text))


def _pattern(marker: str) -> str:
    spelled = "".join(_spellings(character) for character in re.sub(r"\s+", " ", marker))
    return rf"(?:\A|(?<=[{_BREAKS}]))[^\S{_BREAKS}]*{spelled}" if marker[0].isalnum() else spelled


def _spellings(character: str) -> str:
    if character == " ":
        return r"\s+"
    wide = chr(ord(character) + _FULL_WIDTH) if "!" <= character <= "~" else ""
    return f"[{re.escape(character)}{wide}]"
