"""Which of the waiting events one turn answers. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dialogue.messages import ButtonPress, IncomingMessage
from dialogue.router import is_about_forward, split_bursts
from storage.records import InboxKind, InboxRecord


@dataclass(frozen=True, slots=True)
class Parsed:
    """A stored event and what the channel read in it; neither message nor press = nothing to answer."""

    item: InboxRecord
    message: IncomingMessage | None = None
    press: ButtonPress | None = None

    @property
    def is_stop(self) -> bool:
        return self.item.kind is InboxKind.STOP

    def may_stop(self, message: IncomingMessage) -> bool:
        """Whether this is a stop that counts for an answer to `message`: in a group, only who is answered can stop it."""
        by = self.message or self.press
        return self.is_stop and (message.is_private or (by is not None and by.sender.external_id == message.sender.external_id))


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one turn answers."""

    items: tuple[InboxRecord, ...]  # the oldest that wait, those with nothing to answer in between included
    messages: tuple[IncomingMessage, ...]  # empty = nothing to answer in any of the items
    is_stopped: bool  # a /stop came right behind them
    press: ButtonPress | None = None  # a pressed button, which is a turn of its own

    @property
    def inbox_ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items)

    @property
    def is_stop(self) -> bool:
        """Whether this is a /stop itself."""
        return any(item.kind is InboxKind.STOP for item in self.items)


def choose_turn(parsed: Sequence[Parsed], *, join: bool) -> Chosen:
    """Return the first turn in the oldest waiting events: a press, a burst of one person, or with `join` off a single message."""
    parsed = apply_edits(parsed)
    presses = (position for position, one in enumerate(parsed) if one.press is not None)
    first_press = next(presses, len(parsed))
    messages = [one.message for one in parsed[:first_press] if one.message is not None]
    if not messages:
        press = parsed[first_press].press if first_press < len(parsed) else None
        return Chosen(tuple(one.item for one in parsed[: first_press + 1]), (), is_stopped=False, press=press)
    burst = split_bursts(messages)[0] if join else (messages[0],)
    end = _position_behind(parsed, len(burst))
    return Chosen(tuple(one.item for one in parsed[:end]), joined_forward(burst), _is_stopped(burst[-1], parsed[end:]))


def apply_edits(parsed: Sequence[Parsed]) -> list[Parsed]:
    """Let the new version of a message that still waits stand in its place; an edit of anything older is nothing to answer."""
    result: list[Parsed] = []
    for one in parsed:
        message = one.message
        if message is None or not message.is_edit:
            result.append(one)
            continue
        for position, earlier in enumerate(result):
            if earlier.message is not None and _is_version_of(message, earlier.message):
                result[position] = replace(earlier, message=replace(message, is_edit=False))
        result.append(replace(one, message=None))
    return result


def joined_forward(burst: Sequence[IncomingMessage]) -> tuple[IncomingMessage, ...]:
    """Return the burst with a forward as what its command speaks of: `/summarize`, then the forwarded message, or the other way round."""
    if len(burst) != 2 or not is_about_forward(*burst):
        return tuple(burst)
    forward, command = sorted(burst, key=lambda message: not message.is_forward)
    return (replace(command, quoted_text=forward.text, file=command.file or forward.file),)


def _is_stopped(message: IncomingMessage, behind: Sequence[Parsed]) -> bool:
    """Whether a stop of this message comes before anything else that could be answered. Stops of others in a group change nothing."""
    counting = (one for one in behind if one.may_stop(message) or not (one.is_stop or (one.message is None and one.press is None)))
    first = next(counting, None)
    return first is not None and first.is_stop


def _is_version_of(edit: IncomingMessage, original: IncomingMessage) -> bool:
    return edit.message_ref == original.message_ref and edit.sender.external_id == original.sender.external_id


def _position_behind(parsed: Sequence[Parsed], count: int) -> int:
    """Return how many events it takes to get `count` messages."""
    seen = 0
    for position, one in enumerate(parsed, start=1):
        seen += one.message is not None
        if seen == count:
            return position
    return len(parsed)
