"""What the store should do, in memory: one page of plain rules that the real one is compared with."""

from dataclasses import dataclass, field
from itertools import count

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
    number: int = field(default_factory=count().__next__)  # in the order of arrival

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
    orphans: int = 0
    number: int = field(default_factory=count().__next__)

    @property
    def in_lane(self) -> bool:
        return self.state in _UNDELIVERED and self.next_at < NEVER

    def cancel(self) -> None:
        """End it without a text; a placeholder that stands on the screen, or was perhaps just sent, is left behind."""
        self.orphans += self.has_placeholder or self.state is OutboxState.RESERVED
        self.state = OutboxState.CANCELLED

    def drop(self) -> None:
        """End it by hand; of what was sent already it is not known what stands there."""
        if self.state in {OutboxState.RESERVED, OutboxState.READY}:
            self.cancel()
        self.state = OutboxState.CANCELLED


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
        for number, item in enumerate(together):
            item.state, item.attempts = InboxState.CLAIMED, item.attempts + (number == 0)
        return together

    def due(self, now: int) -> str | None:
        """Return the message that may be sent now: the oldest of the lane."""
        key = next((key for key, row in self.rows.items() if row.in_lane), None)
        return key if key is not None and self.rows[key].next_at <= now else None

    def reserve(self, key: str, *, noted: bool) -> None:
        """Reserve a row, or take over the one that is; a placeholder whose id nobody noted may stand on the screen."""
        row = self.rows.setdefault(key, Row(by_bot=True, owner_epoch=0, state=OutboxState.CANCELLED, next_at=0))
        row.orphans += row.state is OutboxState.RESERVED and not row.has_placeholder
        row.owner_epoch, row.state, row.has_placeholder = self.owner_epoch, OutboxState.RESERVED, row.has_placeholder or noted

    def end_reserved(self, state: OutboxState, now: int) -> None:
        """Use or cancel the reserved row, if there is one."""
        if self.reserved is None:
            return
        row = self.rows[self.reserved]
        row.orphans += state is OutboxState.CANCELLED or not row.has_placeholder
        row.state, row.owner_epoch, row.next_at = state, self.owner_epoch, now

    def receive(self, before: "Chat") -> None:
        """Take in what waits in the chat that this one was before."""
        if before.is_human and not self.is_human:
            self.hand_over(to_human=True)
        self._receive_messages(before)
        moved = before.waiting
        before.items = [item for item in before.items if not item.waits]
        self.items = sorted([*self.items, *moved], key=lambda item: item.number)
        for chat in (self, before) if moved else (before,):
            chat.claim_epoch, chat.worker = chat.claim_epoch + 1, ""
        before.owner_epoch, before.is_human = before.owner_epoch + 1, False

    def _receive_messages(self, before: "Chat") -> None:
        if before.reserved is not None:
            reserved = before.rows[before.reserved]
            reserved.state, reserved.orphans = OutboxState.CANCELLED, reserved.orphans + 1
        moved = {key: row for key, row in before.rows.items() if row.state in _UNDELIVERED}
        for key, row in moved.items():
            may_go = row.owner_epoch == before.owner_epoch and not (row.by_bot and self.is_human)
            row.owner_epoch = self.owner_epoch if may_go else -1
            del before.rows[key]
        self.rows = dict(sorted((self.rows | moved).items(), key=lambda found: found[1].number))

    def hand_over(self, *, to_human: bool) -> None:
        """Change the owner. What a person wrote goes on; a takeover stops what the bot has not begun."""
        if not to_human and not self.is_human:
            return
        self.owner_epoch, self.is_human = self.owner_epoch + 1, to_human
        for row in self.rows.values():
            if not row.by_bot and row.state in _UNDELIVERED:
                row.owner_epoch = self.owner_epoch
            elif row.by_bot and to_human and row.state in {OutboxState.RESERVED, OutboxState.READY}:
                row.cancel()
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

    def move(self, old: str, new: str) -> None:
        """Give a chat another name, or bring what waits in it into the one that has that name."""
        if old == new or old not in self.chats:
            return
        if new in self.chats:
            self.chats[new].receive(self.chats[old])
        else:
            self.chats[new] = self.chats.pop(old)

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
