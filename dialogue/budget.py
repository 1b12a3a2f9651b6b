"""How much of what fits into a prompt. Pure arithmetic over token counts; knows no template and no conversation.

The history is cut with hysteresis: it grows until it is too big, then at most half stays. Cutting one turn at a time
would change the start of every prompt, and an engine can reuse what it computed only up to the first change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from dialogue.errors import RequestTooLong

Measure = Callable[[str], int]  # text -> tokens

_LONGEST_TOKEN: Final = 16  # characters; text beyond limit × this is not even measured
_MOST_TOKENS: Final = 4  # of one character: no tokenizer makes more tokens than there are bytes; shorter text need not be measured


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine and the owner allow, in tokens."""

    context: int  # prompt and reply together
    reply: int  # of a reply, where the skill wishes nothing else
    history: int  # of old turns

    def reply_for(self, wish: int | None) -> int:
        """Return how long a reply may get; never more than half of the context."""
        return max(1, min(self.reply if wish is None else wish, self.context // 2))

    @property
    def message(self) -> int:
        """Of one message in a conversation. The same for every turn, so that an old message is cut as it was when it was new."""
        return max(1, (self.context - self.reply_for(None)) // 2)

    @property
    def passages(self) -> int:
        """Of all passages together."""
        return self.context // 4

    @property
    def quote(self) -> int:
        """Of the message that is answered to."""
        return self.context // 8

    @property
    def notes(self) -> int:
        """Of what a user wants to be remembered."""
        return self.context // 8


class Shortened(NamedTuple):
    """A text that fits, and how many characters of its middle were left out."""

    text: str
    left_out: int = 0


def shorten(text: str, limit: int, measure: Measure, note: Callable[[int], str]) -> Shortened:
    """Return `text` if it has at most `limit` tokens, else its two ends around `note(characters left out)`.

    Raises RequestTooLong when not even the note fits.
    """
    if len(text) * _MOST_TOKENS < limit or (len(text) <= limit * _LONGEST_TOKEN and measure(text) <= limit):
        return Shortened(text)
    best = None
    low, high = 0, min(len(text) - 1, limit * _LONGEST_TOKEN)
    while low <= high:
        kept = (low + high) // 2
        candidate = _without_middle(text, kept, note)
        if measure(candidate.text) <= limit:
            best, low = candidate, kept + 1
        else:
            high = kept - 1
    if best is None:
        raise RequestTooLong(f"There is no room for even the shortest form of the message: {limit} tokens are left.")
    return best


def _without_middle(text: str, kept: int, note: Callable[[int], str]) -> Shortened:
    left_out = len(text) - kept
    head = kept - kept // 2
    return Shortened(text[:head] + note(left_out) + text[head + left_out :], left_out)


def cut_history(sizes: Sequence[int], limit: int, room: int) -> int:
    """Return how many of the oldest turns go, given each turn's tokens, oldest first.

    None while all are within `limit` and `room`. Otherwise as few as leave at most half of the limit, but the newest
    turn stays whenever the room takes it: what was just said is what the next message speaks of.
    """
    limit = min(limit, room)
    if not sizes or sum(sizes) <= limit:
        return 0
    suffixes = list(accumulate(reversed(sizes)))  # tokens of the newest 1, 2, 3 … turns
    kept = sum(1 for tokens in suffixes if tokens <= limit // 2)
    if kept == 0 and sizes[-1] <= room:
        kept = 1
    return len(sizes) - kept


def take_while_fits(texts: Sequence[str], limit: int, measure: Measure) -> int:
    """Return how many of the first texts have at most `limit` tokens together."""
    totals = accumulate(measure(text) for text in texts)
    return sum(1 for total in totals if total <= limit)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many ids two prompts share from their start: what an engine need not compute again."""
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def prefix_is_stable(previous: Sequence[int], new: Sequence[int], volatile: int = 0) -> bool:
    """Return whether `new` begins with `previous`, whose last `volatile` ids (passages, date, the opening of the reply) may differ."""
    return common_prefix(previous, new) >= len(previous) - volatile
