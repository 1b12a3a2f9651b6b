"""The way in: durable before acknowledged, then somebody is woken.

`accept` returns after COMMIT and does nothing that could be slow: no parsing, no dialogue, no engine. So a slow model
never holds up a platform. The one thing that is read here is `InboxKind.STOP`, which has to reach a running answer at
once; the item is stored all the same and gets a turn of its own.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from bot.metrics import Metrics
from bot.wakeup import Wakeup
from dialogue.messages import ConversationKey
from storage.database import Database
from storage.records import InboxKind, NewInboxItem

log = structlog.get_logger(__name__)


class RunningTurns:
    """The answers that are being made in this process, so that /stop finds them."""

    def __init__(self) -> None:
        self._stops: dict[ConversationKey, asyncio.Event] = {}

    @contextmanager
    def track(self, key: ConversationKey) -> Iterator[asyncio.Event]:
        """Yield the event that `stop` sets while the block runs. One turn per conversation at a time."""
        stop = self._stops[key] = asyncio.Event()
        try:
            yield stop
        finally:
            if self._stops.get(key) is stop:  # a worker that lost its lease leaves the one of its successor
                del self._stops[key]

    def stop(self, key: ConversationKey) -> bool:
        """Stop the running answer of a conversation; return whether there was one."""
        stop = self._stops.get(key)
        if stop is not None:
            stop.set()
        return stop is not None


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

    async def offset(self) -> int | None:
        """Return the polling offset that was stored last."""
        return await self._database.read(lambda unit: unit.inbox.offset(self._channel, self._account))

    async def accept(self, items: Sequence[NewInboxItem], offset: int | None = None) -> None:
        """Store what is new, and the offset, in one transaction; then wake a worker. Raises StorageError."""
        bounded = [self._bounded(item) for item in items]
        new = await self._database.write(lambda unit: unit.inbox.accept(self._channel, self._account, bounded, offset))
        log.debug("inbox.accepted", channel=self._channel, items=len(items), new=new, offset=offset)
        self._metrics.accepted.labels(self._channel).inc(new)
        if not new:  # the platform repeats itself; an old /stop must not reach a newer answer
            return
        for item in items if new == len(items) else ():  # of a mixed batch, the heartbeat brings what is new
            if item.kind is InboxKind.STOP:
                self._running.stop(ConversationKey(self._channel, self._account, item.chat))
        self._wakeup.ring_in(self._quiet_s)

    def _bounded(self, item: NewInboxItem) -> NewInboxItem:
        if len(item.raw) <= self._max_bytes:
            return item
        log.warning("inbox.event_too_big", channel=self._channel, event_id=item.event_id, size=len(item.raw), limit=self._max_bytes)
        return replace(item, raw=item.raw[: self._max_bytes])
