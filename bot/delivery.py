"""The way out: rows of the outbox become messages on a platform, effectively once and in order.

A row is READY once its turn is committed. One attempt goes like this, and each arrow is durable before the next step:

    ready ─► started ─► channel.deliver (each part recorded) ─► sent
                │              ├─ DeliveryRetry    ─► ready again, later; only this conversation waits
                │              ├─ DeliveryMoved    ─► ready again, in the chat's new place
                │              ├─ DeliveryRefused  ─► failed
                │              └─ DeliveryUnknown, no progress, any other error  ─► unknown
                └─ the process dies: the row stays `started`, which after its deadline means the same as unknown

Unknown is not failed: the text may be on the screen. Where the channel says that repeating is safe (it edits its own
message, or has an idempotency key), the attempt is repeated once the old request can no longer take effect
(`settle_s`). Everywhere else the row stays `unknown` for the operator to see and does not hold up what comes after it.

Order. A *lane* is the lock of one conversation. The worker holds it from before a turn until its answer is delivered;
the sweep holds it while it delivers what was left behind: rows that wait for a retry, rows of a former run, words of the
desk. Inside the lane the oldest unfinished row goes first.

Races. Two processes may look at the same row: `outbox.start` and `outbox.resume` let one of them through, the other gets
ClaimLost and leaves it alone. One that oversleeps its deadline may find that another has resumed its row: whatever it then
wants to write down names an attempt that is no longer the latest, gets ClaimLost too, and nothing more of it is sent. The
sweep leaves fresh rows to the worker that made them (SWEEP_GRACE_MS), which may have previews on the screen; words of the
desk have no worker and go at once. A takeover cancels what is not started; during a delivery it makes `record` raise.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from weakref import WeakValueDictionary

import structlog

from bot.channels.base import (
    Channel,
    ChannelRefused,
    DeliveryMoved,
    DeliveryRefused,
    DeliveryRetry,
    DeliveryUnknown,
    Document,
    OutgoingReply,
)
from bot.documents import MakeDocument
from bot.metrics import Metrics
from bot.wakeup import Wakeup
from dialogue.extras import decode_extras
from storage.database import Database
from storage.errors import ClaimLost, NotFound, StorageError
from storage.records import ConversationRecord, OutboxRecord, OutboxState
from storage.unit_of_work import UnitOfWork

SWEEP_S = 1.0  # how often the sweep looks for what other processes left behind
SWEEP_GRACE_MS = 2000  # a row this young belongs to the worker that made it
SWEEP_LANES = 32  # conversations that the sweep delivers to at the same time
RETRY_FIRST_S = 1.0
DEFECTS_AT_MOST = 5  # attempts; a text that a channel cannot handle must not hold up its conversation for ever
RETRY_MAX_S = 300.0

log = structlog.get_logger(__name__)


async def no_documents(kind: str, row: OutboxRecord, conversation: ConversationRecord) -> Document:  # noqa: ARG001 - the shape of MakeDocument
    """Stand in where no reply has a file."""
    raise NotFound(f"nothing here makes a file of kind {kind!r}")


class TakenOver(Exception):
    """A person took the conversation while its answer was being sent: nothing more of it goes out."""


@dataclass(slots=True)
class _Attempt:
    """One row on its way to a channel. Records each part and extends the deadline."""

    database: Database
    row: OutboxRecord
    timeout_ms: int
    deadline: asyncio.Timeout
    is_repeat: bool

    async def record(self, index: int, ref: str) -> None:
        """See `Progress`. Raises ClaimLost and TakenOver."""
        row, timeout_ms = self.row, self.timeout_ms
        goes_on = await self.database.write(
            lambda unit: unit.outbox.add_chunk(row.id, index, ref, timeout_ms=timeout_ms, attempt=row.attempts)
        )
        self.deadline.reschedule(asyncio.get_running_loop().time() + timeout_ms / 1000)
        if not goes_on:
            raise TakenOver("a person took the conversation")

    async def orphan(self) -> None:
        """See `Progress`."""
        log.warning("delivery.orphan", outbox_id=self.row.id)
        await self.database.write(lambda unit: unit.outbox.add_orphan(self.row.id))


@dataclass(frozen=True, slots=True)
class _Result:
    """How far one attempt came."""

    outcome: Literal["sent", "retry", "refused", "unknown", "taken_over", "fenced"]
    reason: str = ""
    after_s: float | None = None  # of "retry": what the platform asked for
    is_defect: bool = False  # the channel failed in a way that it does not know


class Delivery:
    """Delivers the rows of the given channels."""

    def __init__(
        self,
        database: Database,
        channels: Sequence[Channel],
        *,
        metrics: Metrics,
        documents: MakeDocument = no_documents,
        is_open: Callable[[Channel], bool] = lambda _channel: True,
    ) -> None:
        self._database = database
        self._channels = tuple(channels)
        self._documents = documents
        self._is_open = is_open
        self._metrics = metrics
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # a lane lives while somebody uses it
        self._wakeup = Wakeup()
        self._closing = False

    @asynccontextmanager
    async def lane(self, conversation_id: str) -> AsyncIterator[None]:
        """Be the only one in this process who shows anything in this conversation."""
        lock = self._lanes.get(conversation_id)
        if lock is None:
            lock = self._lanes[conversation_id] = asyncio.Lock()
        async with lock:
            yield

    async def drain(self, channel: Channel, conversation_id: str, *, newest: str | None = None, min_age_ms: int = 0) -> bool:
        """Deliver what is due in this conversation, oldest first; return whether nothing is left.

        Hold the lane. `newest` is the id of the youngest row, if the caller knows it. Raises StorageError.
        """
        while True:
            head, now = await self._database.read(lambda unit: _head(unit, conversation_id))
            if head is None:
                return True
            if now - head.next_attempt_at < (min_age_ms if _may_have_previews(head) else 0):
                return False
            if not await self._attempt(channel, head):
                return False
            if head.id == newest:
                return True

    async def run(self) -> None:
        """Sweep until closed; what is being sent then is finished. Cancelling leaves rows `started`, for the next run."""
        slots = asyncio.Semaphore(SWEEP_LANES)
        async with asyncio.TaskGroup() as group:
            while not self._closing:
                try:
                    for channel, conversation_id in await self._left_behind():
                        await slots.acquire()
                        task = group.create_task(self._sweep_lane(channel, conversation_id))
                        task.add_done_callback(lambda _task: slots.release())
                except StorageError as error:
                    log.warning("delivery.sweep_failed", reason=str(error))
                await self._wakeup.wait(SWEEP_S)

    def ring(self) -> None:
        """Let `run` look at once: something was put into the outbox that no worker delivers."""
        self._wakeup.ring()

    def close(self) -> None:
        """Let `run` begin nothing new and return."""
        self._closing = True
        self.ring()

    async def sweep(self) -> None:
        """Look once for what was left behind, and deliver it. Raises StorageError."""
        for channel, conversation_id in await self._left_behind():
            await self._sweep_lane(channel, conversation_id)

    async def _left_behind(self) -> list[tuple[Channel, str]]:
        """Return the conversations in which something is due and nobody of this process is at work."""
        found: list[tuple[Channel, str]] = []
        for channel in filter(self._is_open, self._channels):
            rows = await self._database.read(lambda unit, to=channel: unit.outbox.due(to.name, account=to.account))
            found += [(channel, row.conversation_id) for row in rows if row.conversation_id not in self._lanes]
        return found

    async def _sweep_lane(self, channel: Channel, conversation_id: str) -> None:
        try:
            async with self.lane(conversation_id):
                await self.drain(channel, conversation_id, min_age_ms=SWEEP_GRACE_MS)
        except StorageError as error:
            log.warning("delivery.lane_failed", conversation_id=conversation_id, reason=str(error))

    async def _attempt(self, channel: Channel, row: OutboxRecord) -> bool:
        """Try one row; return whether it is finished, so that the next one may go."""
        if row.state is not OutboxState.READY and not channel.capabilities.resend_is_safe:
            result, finished = _Result("unknown", "the program ended while this was sent"), True
            await self._park(row, result.reason)
        else:
            started = await self._begin(channel, row)
            if started is None:
                return False
            result = await self._send(channel, *started, is_repeat=row.state is not OutboxState.READY)
            try:
                finished = await self._settle(channel, started[0], result)
            except ClaimLost as error:  # it took longer than its deadline, and somebody else has resumed the row
                result, finished = _Result("fenced", str(error)), False
        self._metrics.deliveries.labels(channel.name, result.outcome).inc()
        said = log.debug if result.outcome == "sent" else log.info
        said("delivery.attempted", outbox_id=row.id, turn_id=row.turn_id, outcome=result.outcome, reason=result.reason, done=finished)
        return finished

    async def _begin(self, channel: Channel, row: OutboxRecord) -> tuple[OutboxRecord, ConversationRecord] | None:
        """Pass the fence; None = somebody else has the row, or a person the conversation."""
        timeout_ms = _milliseconds(channel.capabilities.timeout_s)

        async def begin(unit: UnitOfWork) -> tuple[OutboxRecord, ConversationRecord] | None:
            enter = unit.outbox.start if row.state is OutboxState.READY else unit.outbox.resume
            started = await enter(row.id, timeout_ms=timeout_ms)
            return None if started is None else (started, await unit.conversations.get(row.conversation_id))

        try:
            return await self._database.write(begin)
        except ClaimLost:
            log.info("delivery.fenced", outbox_id=row.id)
            return None

    async def _reply(self, row: OutboxRecord, conversation: ConversationRecord) -> OutgoingReply:
        extras = decode_extras(row.extras)
        document = await self._documents(extras.document, row, conversation) if extras.document else None
        return OutgoingReply(row, conversation, extras, document)

    async def _send(self, channel: Channel, row: OutboxRecord, conversation: ConversationRecord, *, is_repeat: bool) -> _Result:
        """Cross the platform border, and say how far it came."""
        timeout_s = channel.capabilities.timeout_s
        result = _Result("sent")
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                attempt = _Attempt(self._database, row, _milliseconds(timeout_s), deadline, is_repeat)
                await channel.deliver(await self._reply(row, conversation), attempt)
        except DeliveryRetry as error:
            result = _Result("retry", str(error), error.after_s)
        except DeliveryMoved as error:
            await self._move(conversation, error.chat)
            result = _Result("retry", str(error), 0.0)
        except ChannelRefused as error:  # the program is about to end; the operator has to act first
            result = _Result("retry", str(error))
        except (DeliveryRefused, NotFound) as error:  # NotFound: what the file was to hold is gone
            result = _Result("refused", str(error))
        except DeliveryUnknown as error:
            result = _Result("unknown", str(error))
        except TimeoutError:
            result = _Result("unknown", f"no progress for {timeout_s:g} s")
        except TakenOver as error:
            result = _Result("taken_over", str(error))
        except ClaimLost as error:
            result = _Result("fenced", str(error))
        except StorageError:
            raise
        except Exception as error:  # a defect of the channel: how far it came is not known
            log.exception("delivery.channel_failed", outbox_id=row.id, channel=channel.name)
            result = _Result("unknown", f"{type(error).__name__} in the channel", is_defect=True)
        return result

    async def _move(self, conversation: ConversationRecord, chat: str) -> None:
        old = conversation.chat.partition("/")[0]
        log.info("delivery.chat_moved", conversation_id=conversation.id, channel=conversation.channel)
        await self._database.write(lambda unit: unit.conversations.move(conversation.channel, conversation.account, old, chat))

    async def _settle(self, channel: Channel, row: OutboxRecord, result: _Result) -> bool:
        """Write down what came of it; return whether the row is finished."""
        resends = channel.capabilities.resend_is_safe and not (result.is_defect and row.attempts >= DEFECTS_AT_MOST)
        match result.outcome:
            case "sent":
                await self._database.write(lambda unit: unit.outbox.sent(row.id, attempt=row.attempts))
            case "refused":
                await self._database.write(lambda unit: unit.outbox.failed(row.id, result.reason, attempt=row.attempts))
            case "taken_over":
                await self._park(row, result.reason)
            case "retry":
                await self._again(row, backoff_s(row.attempts) if result.after_s is None else result.after_s, result.reason)
            case "unknown" if resends:
                await self._again(row, max(channel.capabilities.settle_s, backoff_s(row.attempts)), result.reason, known=False)
            case "unknown":
                await self._park(row, result.reason)
        return result.outcome not in {"retry", "fenced"} and not (result.outcome == "unknown" and resends)

    async def _again(self, row: OutboxRecord, delay_s: float, reason: str, *, known: bool = True) -> None:
        """Let the row be due after `delay_s`: as ready when it is known that nothing was accepted, else as unknown."""
        delay_ms = _milliseconds(delay_s)

        async def postpone(unit: UnitOfWork) -> None:
            at = await unit.now() + delay_ms
            if known:
                await unit.outbox.retry(row.id, at, reason, attempt=row.attempts)
            else:
                await unit.outbox.unknown(row.id, reason, retry_at=at, attempt=row.attempts)

        await self._database.write(postpone)
        self._wakeup.ring_in(delay_s)

    async def _park(self, row: OutboxRecord, reason: str) -> None:
        """Leave the row to the operator: it may be on the screen, and nothing here may send it again."""
        log.warning("delivery.unknown", outbox_id=row.id, turn_id=row.turn_id, reason=reason)
        await self._database.write(lambda unit: unit.outbox.unknown(row.id, reason, attempt=row.attempts))


def backoff_s(attempts: int) -> float:
    """Return how long to wait after this many attempts: doubled each time, with jitter so that a crowd does not come back at once."""
    return min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(attempts - 1, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


async def _head(unit: UnitOfWork, conversation_id: str) -> tuple[OutboxRecord | None, int]:
    return await unit.outbox.head(conversation_id), await unit.now()


def _may_have_previews(row: OutboxRecord) -> bool:
    """Whether its worker may be at work on it. What a person said has no worker, and what was tried is nobody's."""
    return row.turn_id is not None and not row.attempts


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
