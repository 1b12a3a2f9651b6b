"""A dialogue in the shape that can be learned: it begins with the customer, ends with the assistant, and they alternate."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from dialogue.messages import ChatMessage, Role

EMPTY: Final = "empty turn removed"
MERGED: Final = "turns of one speaker merged"
LEADING: Final = "leading assistant turn removed"
TRAILING: Final = "unanswered last turn removed"

# Nobody ends a message so; a text that does was cut off. By primary tag, and only words that never stand last.
_NEVER_LAST: Final = {
    "en": frozenset({"the", "an", "and", "or", "your", "our", "my"}),
    "de": frozenset({"und", "oder", "ein", "eine", "einen", "dem", "den", "ihre", "ihr"}),
    "fr": frozenset({"le", "la", "les", "et", "ou", "un", "une", "des", "du", "votre", "vos"}),
    "es": frozenset({"el", "los", "las", "y", "un", "una", "del", "su", "sus"}),
}
_LAST_WORD: Final = re.compile(r"(?:^|\s)([^\W\d_]+)$")
_HANGING: Final = (",", "，", "、", "(", "（", "[", "{", "<|")
_FENCE: Final = "```"


def tidy(turns: Sequence[ChatMessage]) -> tuple[tuple[ChatMessage, ...], tuple[str, ...]]:
    """Return the turns in that shape, and what was done to them. No turns are left where nobody was answered."""
    done: list[str] = []
    spoken = [turn for turn in turns if turn.content]
    if len(spoken) < len(turns):
        done.append(EMPTY)
    merged = list(_merged(spoken))
    if len(merged) < len(spoken):
        done.append(MERGED)
    if merged and merged[0].role is Role.ASSISTANT:
        del merged[0]
        done.append(LEADING)
    if merged and merged[-1].role is Role.USER:
        del merged[-1]
        done.append(TRAILING)
    return tuple(merged), tuple(done)


def is_cut_off(text: str, language: str) -> bool:
    """Whether a reply ends in the middle of a sentence or of a block of code, as far as that is certain."""
    if text.endswith(_HANGING) or text.count(_FENCE) % 2:
        return True
    last = _LAST_WORD.search(text)
    return last is not None and last[1] in _NEVER_LAST.get(language.partition("-")[0], ())


def _merged(turns: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    for role, said in groupby(turns, key=lambda turn: turn.role):
        yield ChatMessage(role, "\n".join(turn.content for turn in said))
