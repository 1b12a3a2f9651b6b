"""The way in: durable before acknowledged, then somebody is woken.

`accept` returns after COMMIT and does nothing that could be slow: no parsing, no dialogue, no engine. So a slow model
never holds up a platform. The one thing that is read here is `InboxKind.STOP`, which has to reach a running answer at
once; the item is stored all the same and gets a turn of its own.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import structlog

from bot.channels.base import POLL_LEASE_S
from bot.metrics import Metrics
from bot.wakeup import Wakeup
from dialogue.messages import ConversationKey
from storage.database import Database
from storage.ids import new_id
from storage.records import InboxKind, NewInboxItem

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RunningTurn:
    """One answer that is being made in this process."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)  # ends the answer as far as it is
    abandon: asyncio.Event = field(default_factory=asyncio.Event)  # ends it without a word: a person took over
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # nothing of it is on its way any more
    asker: str | None = None  # who is answered (Sender.external_id); None = not chosen yet
    _stoppers: set[str] = field(default_factory=set)  # who wanted it to stop, in a group

    def answers(self, person: str) -> None:
        """Make it an answer to this person, who may have stopped it already."""
        self.asker = person
        self._stop_if_asked()

    def stop_by(self, person: str) -> None:
        """Stop it if it is this person who is answered; nobody in a group silences an answer to somebody else."""
        self._stoppers.add(person)
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.asker in self._stoppers:
            self.stop.set()


class RunningTurns:
    """The answers that are being made in this process, so that /stop and a takeover find them."""

    def __init__(self) -> None:
        self._turns: dict[ConversationKey, RunningTurn] = {}

    @contextmanager
    def track(self, key: ConversationKey) -> Iterator[RunningTurn]:
        """Yield what `stop` and `end` act on while the block runs. One turn per conversation at a time."""
        turn = self._turns[key] = RunningTurn()
        try:
            yield turn
        finally:
            turn.ended.set()
            if self._turns.get(key) is turn:  # a worker that lost its lease leaves the one of its successor
                del self._turns[key]

    def stop(self, key: ConversationKey, by: str | None = None) -> bool:
        """Stop the running answer of a conversation; return whether there was one. `by` says who stops it in a group, None = it is none."""
        turn = self._turns.get(key)
        if turn is None:
            return False
        if by is None:
            turn.stop.set()
        else:
            turn.stop_by(by)
        return True

    async def end(self, key: ConversationKey) -> None:
        """Abandon the running answer of a conversation and wait until nothing of it is on its way to the platform."""
        turn = self._turns.get(key)
        if turn is not None:
            turn.abandon.set()
            await turn.ended.wait()


class Inbox:
    """The `Inlet` of one channel account."""

    def __init__(
        self,
        database: Database,
        channel: str,
        account: str,
        *,
        max_bytes: int,  # longer raw events are cut, so that they are quarantined instead of stored whole
        quiet_s: float,  # workers are woken this long after a message; 0 = at once
        wakeup: Wakeup,
        running: RunningTurns,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._channel = channel
        self._account = account
        self._max_bytes = max_bytes
        self._quiet_s = quiet_s
        self._wakeup = wakeup
        self._running = running
        self._metrics = metrics
        self._name = new_id()  # of this process as a poller
        self._poll_epoch: int | None = None

    async def offset(self) -> int | None:
        """Return the polling offset that was stored last."""
        return await self._database.read(lambda unit: unit.inbox.offset(self._channel, self._account))

    async def hold_poll(self) -> bool:
        """Take or renew the right to poll. Raises StorageError."""
        names = (self._channel, self._account, self._name)
        self._poll_epoch = await self._database.write(lambda unit: unit.inbox.hold_poll(*names, lease_ms=round(POLL_LEASE_S * 1000)))
        return self._poll_epoch is not None

    async def release_poll(self) -> None:
        """Let another process poll at once. Raises StorageError."""
        if self._poll_epoch is not None:
            self._poll_epoch = None
            await self._database.write(lambda unit: unit.inbox.release_poll(self._channel, self._account, self._name))

    async def backlog(self) -> int:
        """Return how many events of this channel wait for an answer. Raises StorageError."""
        return await self._database.read(lambda unit: unit.inbox.pending(self._channel))

    async def accept(self, items: Sequence[NewInboxItem], offset: int | None = None) -> None:
        """Store what is new, and the offset, in one transaction; then wake a worker. Raises StorageError.

        Raises ClaimLost when another process polls by now: it has the same events, and its offset counts.
        """
        bounded, epoch = [self._bounded(item) for item in items], self._poll_epoch if offset is not None else None
        new = await self._database.write(lambda unit: unit.inbox.accept(self._channel, self._account, bounded, offset, poll_epoch=epoch))
        log.debug("inbox.accepted", channel=self._channel, items=len(items), new=new, offset=offset)
        self._metrics.accepted.labels(self._channel).inc(new)
        if not new:  # the platform repeats itself; an old /stop must not reach a newer answer
            return
        for item in items if new == len(items) else ():  # of a mixed batch, the heartbeat brings what is new
            if item.kind is InboxKind.STOP:
                self._running.stop(ConversationKey(self._channel, self._account, item.chat), None if item.is_private else item.sender)
        self._wakeup.ring_in(self._quiet_s)

    def _bounded(self, item: NewInboxItem) -> NewInboxItem:
        if len(item.raw) <= self._max_bytes:
            return item
        log.warning("inbox.event_too_big", channel=self._channel, event_id=item.event_id, size=len(item.raw), limit=self._max_bytes)
        return replace(item, raw=item.raw[: self._max_bytes])
