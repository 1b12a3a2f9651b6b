"""AdmittedEngine: lets in as many requests as the engine has slots, lets a bounded number wait, refuses the rest in time.

refused at once   its turn would come after its deadline, or the waiting room is full and nobody waits with more
waits             fair between `fair_key`s over tokens (see `fair_queue`); it hears its place whenever that changes
refused later     the waiting room is full, somebody with less wants in, and this is the newest of who waits with most
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from dialogue.engine.base import (
    AdapterRef,
    Engine,
    EngineHealth,
    EngineInfo,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    QueuePosition,
)
from dialogue.engine.fair_queue import Entry, FairQueue
from dialogue.errors import DeadlineExceeded, EngineError, EngineOverloaded, EngineUnavailable

T = TypeVar("T")

SHORTEST_RETRY_S = 1.0
RETRY_WITHOUT_ESTIMATE_S = 5.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may wait."""

    max_waiting: int = 64  # requests
    max_queue_tokens: int = 131_072  # prompt + reply of all that wait; a single request may be longer


class ServiceRate:
    """How long a slot is busy with a token of cost: an exponentially weighted mean over finished requests."""

    def __init__(self, weight: float = 0.2) -> None:
        self._weight = weight  # of the newest observation
        self.seconds_per_token: float | None = None  # None = nothing finished yet

    def observe(self, cost: int, seconds: float) -> None:
        """A request of `cost` tokens was served in `seconds`."""
        seen = seconds / max(1, cost)
        known = self.seconds_per_token
        self.seconds_per_token = seen if known is None else known + self._weight * (seen - known)

    def seconds(self, tokens: int) -> float:
        """Return the time that `tokens` will keep one slot; 0 without an estimate."""
        return tokens * (self.seconds_per_token or 0.0)


class _Ticket:
    """One request on its way through admission."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.admitted_at: float | None = None
        self.refusal: EngineError | None = None
        self.position = 0  # 1 = next; 0 = it does not wait
        self.news = asyncio.Event()  # something above has changed


class AdmittedEngine:
    """Implements `Engine` around an engine that should not be asked for more than it has slots."""

    def __init__(self, inner: Engine, limits: AdmissionLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._limits = limits or AdmissionLimits()
        self._clock = clock
        self._slots = 1  # until start() tells
        self._queue: FairQueue[_Ticket] = FairQueue()
        self._running: set[_Ticket] = set()
        self._rate = ServiceRate()
        self._closed = False

    async def start(self) -> EngineInfo:
        """Start the inner engine. Raises EngineUnavailable."""
        info = await self._inner.start()
        self._slots = info.slots
        return info

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Wait for a slot, telling the place in the queue, then stream. Raises EngineOverloaded and DeadlineExceeded too."""
        submitted = self._clock()
        deadline = submitted + request.deadline_s
        entry = self._enqueue(request)
        ticket = entry.item
        try:
            shown = 0
            while ticket.admitted_at is None:
                if ticket.refusal is not None:
                    raise ticket.refusal
                if ticket.position != shown:
                    shown = ticket.position
                    yield QueuePosition(shown)
                else:
                    ticket.news.clear()
                    await self._before(deadline, ticket.news.wait())
            finished = None
            admitted = replace(request, deadline_s=max(0.0, deadline - self._clock()))
            async with aclosing(self._inner.generate(admitted)) as events:
                while (event := await self._before(deadline, anext(events, None))) is not None:
                    if isinstance(event, GenerationFinished):
                        finished = replace(event, queue_ms=event.queue_ms + (ticket.admitted_at - submitted) * 1000)
                        self._rate.observe(ticket.cost, self._clock() - ticket.admitted_at)
                        break
                    yield event
        finally:
            self._leave(entry)
        if finished is not None:
            yield finished  # when the slot is free already: the consumer may never come back

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """As the inner engine does."""
        await self._inner.set_adapters(adapters)

    def health(self) -> EngineHealth:
        inner = self._inner.health()
        return replace(inner, ready=inner.ready and not self._closed, running=len(self._running), waiting=len(self._queue))

    async def close(self) -> None:
        """Send everybody away and close the inner engine. Idempotent."""
        self._closed = True
        for entry in self._queue.order():
            self._refuse(entry, EngineUnavailable("the engine is closed"))
        await self._inner.close()

    def _enqueue(self, request: GenerationRequest) -> Entry[_Ticket]:
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        cost = len(request.prompt) + request.sampling.max_tokens
        if self._queue or len(self._running) >= self._slots:
            self._refuse_the_late(request)
            self._make_room(request.fair_key, cost)
        entry = self._queue.push(request.fair_key, cost, _Ticket(cost))
        self._admit()
        return entry

    def _refuse_the_late(self, request: GenerationRequest) -> None:
        start_s = self._predicted_wait_s(self._queue.tokens_before(request.fair_key))
        if start_s > request.deadline_s:
            raise EngineOverloaded(
                f"its turn would come in about {start_s:.0f} s, after its deadline of {request.deadline_s:.0f} s",
                retry_after_s=max(SHORTEST_RETRY_S, start_s - request.deadline_s),
            )

    def _make_room(self, key: str, cost: int) -> None:
        """Send away the newest of who waits with most, until `cost` fits; raise EngineOverloaded when that is `key` itself."""
        while self._queue and (len(self._queue) >= self._limits.max_waiting or self._queue.tokens + cost > self._limits.max_queue_tokens):
            heaviest = self._queue.heaviest_key()
            refusal = EngineOverloaded("too many requests wait", self._retry_after_s())
            if self._queue.tokens_of(heaviest) <= self._queue.tokens_of(key) + cost:
                raise refusal
            self._refuse(self._queue.newest(heaviest), refusal)

    def _refuse(self, entry: Entry[_Ticket], refusal: EngineError) -> None:
        self._queue.remove(entry)
        entry.item.refusal = refusal
        entry.item.news.set()

    def _predicted_wait_s(self, tokens_before: int) -> float:
        """Return when a request with so much before it would start, in seconds from now."""
        now = self._clock()
        busy = sum(max(0.0, self._rate.seconds(ticket.cost) - (now - (ticket.admitted_at or now))) for ticket in self._running)
        return (busy + self._rate.seconds(tokens_before)) / self._slots

    def _retry_after_s(self) -> float:
        """Return when half of what waits will have been served."""
        estimate = self._predicted_wait_s(self._queue.tokens // 2)
        return max(SHORTEST_RETRY_S, estimate) if estimate else RETRY_WITHOUT_ESTIMATE_S

    def _admit(self) -> None:
        """Fill the free slots, and tell who waits when the place has changed."""
        while self._queue and len(self._running) < self._slots:
            ticket = self._queue.pop().item
            ticket.admitted_at = self._clock()
            self._running.add(ticket)
            ticket.news.set()
        for position, entry in enumerate(self._queue.order(), start=1):
            if entry.item.position != position:
                entry.item.position = position
                entry.item.news.set()

    def _leave(self, entry: Entry[_Ticket]) -> None:
        self._queue.remove(entry)
        self._running.discard(entry.item)
        self._admit()
        if not self._running:
            self._queue.settle()

    async def _before(self, deadline: float, result: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                return await result
        except TimeoutError:
            raise DeadlineExceeded("the deadline of the request passed") from None
