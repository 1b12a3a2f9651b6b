"""Which of the waiting messages one turn answers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dialogue.messages import IncomingMessage
from dialogue.router import split_bursts
from storage.records import InboxKind, InboxRecord


@dataclass(frozen=True, slots=True)
class Parsed:
    """A stored event and what the channel read in it."""

    item: InboxRecord
    message: IncomingMessage | None  # None = nothing to answer


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one turn answers."""

    items: tuple[InboxRecord, ...]  # the oldest that wait, those with nothing to answer in between included
    messages: tuple[IncomingMessage, ...]  # empty = nothing to answer in any of the items
    is_stopped: bool  # a /stop came right behind them

    @property
    def inbox_ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items)

    @property
    def is_stop(self) -> bool:
        """Whether this is a /stop itself."""
        return any(item.kind is InboxKind.STOP for item in self.items)


def choose_turn(parsed: Sequence[Parsed], *, join: bool) -> Chosen:
    """Return the first turn in the oldest waiting events: a burst of one person, or with `join` off a single message."""
    messages = [one.message for one in parsed if one.message is not None]
    if not messages:
        return Chosen(tuple(one.item for one in parsed), (), is_stopped=False)
    count = len(split_bursts(messages)[0]) if join else 1
    end = _position_behind(parsed, count)
    rest = parsed[end:]
    is_stopped = any(one.item.kind is InboxKind.STOP for one in rest[:1])
    return Chosen(tuple(one.item for one in parsed[:end]), tuple(messages[:count]), is_stopped)


def _position_behind(parsed: Sequence[Parsed], count: int) -> int:
    """Return how many events it takes to get `count` messages."""
    seen = 0
    for position, one in enumerate(parsed, start=1):
        seen += one.message is not None
        if seen == count:
            return position
    return len(parsed)
