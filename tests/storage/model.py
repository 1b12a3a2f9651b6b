"""What the store should do, in memory: one page of plain rules that the real one is compared with."""

from dataclasses import dataclass, field

from storage.records import InboxState, OutboxState
from storage.repositories.outbox import NEVER

LEASE_MS, MAX_ATTEMPTS, TIMEOUT_MS = 30_000, 3, 30_000
_UNDELIVERED = {OutboxState.READY, OutboxState.STARTED, OutboxState.UNKNOWN}


@dataclass
class Item:
    """An event that was accepted and acknowledged."""

    event: str
    received_at: int
    is_stop: bool = False
    state: InboxState = InboxState.NEW
    attempts: int = 0

    @property
    def waits(self) -> bool:
        return self.state in {InboxState.NEW, InboxState.CLAIMED}


@dataclass
class Row:
    """Something that is to be said."""

    by_bot: bool
    owner_epoch: int
    state: OutboxState
    next_at: int
    has_placeholder: bool = False

    @property
    def in_lane(self) -> bool:
        return self.state in _UNDELIVERED and self.next_at < NEVER


@dataclass
class Chat:
    """A conversation with its items and its messages, both in order."""

    items: list[Item] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    turns: int = 0
    claim_epoch: int = 0
    worker: str = ""
    lease_until: int = 0
    owner_epoch: int = 0
    is_human: bool = False

    @property
    def waiting(self) -> list[Item]:
        return [item for item in self.items if item.waits]

    @property
    def reserved(self) -> str | None:
        return next((key for key, row in self.rows.items() if row.state is OutboxState.RESERVED), None)

    def is_ready(self, now: int, quiet_ms: int) -> bool:
        """Return whether a worker may have it."""
        ages = [now - item.received_at for item in self.waiting]
        is_free = not self.worker or self.lease_until <= now
        return bool(ages) and is_free and (min(ages) >= quiet_ms or max(ages) >= 5 * quiet_ms)

    def hand_out(self) -> list[Item]:
        """Quarantine what was tried too often; return what may share a turn."""
        for item in self.waiting:
            if item.attempts >= MAX_ATTEMPTS:
                item.state = InboxState.QUARANTINED
        together: list[Item] = []
        for item in self.waiting:
            is_last_chance = item.attempts > 0 and item.attempts + 1 == MAX_ATTEMPTS
            if is_last_chance and together:
                break
            together.append(item)
            if is_last_chance:
                break
        for item in together:
            item.state, item.attempts = InboxState.CLAIMED, item.attempts + 1
        return together

    def due(self, now: int) -> str | None:
        """Return the message that may be sent now: the oldest of the lane."""
        key = next((key for key, row in self.rows.items() if row.in_lane), None)
        return key if key is not None and self.rows[key].next_at <= now else None

    def hand_over(self, *, to_human: bool) -> None:
        """Change the owner. What a person wrote goes on; a takeover stops what the bot has not begun."""
        if not to_human and not self.is_human:
            return
        self.owner_epoch, self.is_human = self.owner_epoch + 1, to_human
        for row in self.rows.values():
            if not row.by_bot and row.state in _UNDELIVERED:
                row.owner_epoch = self.owner_epoch
            elif row.by_bot and to_human and row.state in {OutboxState.RESERVED, OutboxState.READY}:
                row.state = OutboxState.CANCELLED
            elif row.by_bot and to_human and row.state is OutboxState.UNKNOWN:
                row.next_at = NEVER


class Model:
    """All chats of one account, and the worker's claims as the store should see them."""

    def __init__(self) -> None:
        self.chats: dict[str, Chat] = {}

    def accept(self, chat: str, events: list[str], now: int, *, is_stop: bool = False) -> int:
        """Store what is new; return how many."""
        known = {item.event for one in self.chats.values() for item in one.items}
        new = [event for event in dict.fromkeys(events) if event not in known]
        self.chats.setdefault(chat, Chat()).items += [Item(event, now, is_stop) for event in new]
        return len(new)

    def claim(self, worker: str, now: int, quiet_ms: int) -> tuple[str, list[Item]] | None:
        """Give the conversation that waits longest to the worker."""
        ready = [(chat.waiting[0].received_at, name) for name, chat in self.chats.items() if chat.is_ready(now, quiet_ms)]
        for _, name in sorted(ready):
            chat = self.chats[name]
            items = chat.hand_out()
            if items:
                chat.claim_epoch, chat.worker, chat.lease_until = chat.claim_epoch + 1, worker, now + LEASE_MS
                return name, items
        return None


class Platform:
    """What the people in a chat see. A plain send shows something new each time; an edit only makes one message say it."""

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}

    def show(self, key: str, *, by_edit: bool) -> None:
        """Let a message appear; nobody may see the same answer twice."""
        self.shown[key] = 1 if by_edit else self.shown.get(key, 0) + 1
        assert self.shown[key] == 1, "the same answer was shown twice"
