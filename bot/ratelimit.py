"""How fast a bot may talk: one limiter per bot, with a lane for each of its chats. Knows no platform.

In a lane one call runs at a time; the others wait, final answers before previews, then in the order of their arrival. The
first in line goes when the chat has room (so many calls at once, then so many a second; a group so many in any minute), when
the whole bot has room, and when the platform has not asked this chat to pause. A final answer books the next free place of
the bot ahead; a preview only takes what is free, and always leaves a chat the room that a final answer needs.

A waiter sleeps only while it is first in line, and looks again when it wakes: nothing has to be woken early. Lanes that have
rested are forgotten, two looked at for each new one.
"""

import asyncio
import itertools
import time
from bisect import insort
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

FINAL_CALLS: Final = 2  # a placeholder and its edit: what previews leave room for
MINUTE_S: Final = 60.0
SHORTEST_SLEEP_S: Final = 0.001  # a clock may round a shorter one to nothing


class Priority(IntEnum):
    """Who goes first."""

    FINAL = 0
    PREVIEW = 1


@dataclass(frozen=True, slots=True)
class Rates:
    """How much is allowed; 0 = without limit, each."""

    per_chat_s: float = 1.0  # calls a second in one chat, in the long run
    chat_burst: int = 3  # calls at once in a chat that was silent
    group_per_min: int = 20  # calls in any minute in a group
    overall_s: float = 30.0  # calls in any second, all chats together; below 1, one call in any 1 / overall_s seconds


class _Window:
    """At most `count` times in any stretch of `period_s`."""

    def __init__(self, count: int, period_s: float) -> None:
        self._count = count
        self._period_s = period_s
        self._times: deque[float] = deque(maxlen=count)

    def free_at(self, keep: int = 0) -> float:
        """Return from when on there is room for one more and `keep` others."""
        nth = self._count - min(keep, self._count - 1)
        return self._times[-nth] + self._period_s if len(self._times) >= nth else 0.0

    def add(self, at: float) -> None:
        self._times.append(at)

    @property
    def empty_at(self) -> float:
        return self._times[-1] + self._period_s if self._times else 0.0


class _Bucket:
    """`burst` times at once, one more every `interval_s`; only the time at which it is full again is kept."""

    __slots__ = ("_burst", "_interval_s", "empty_at")

    def __init__(self, burst: int, interval_s: float) -> None:
        self._burst = burst
        self._interval_s = interval_s
        self.empty_at = 0.0

    def free_at(self, keep: int = 0) -> float:
        return self.empty_at - (self._burst - 1 - min(keep, self._burst - 1)) * self._interval_s

    def add(self, at: float) -> None:
        self.empty_at = max(self.empty_at, at) + self._interval_s


class _Waiter:
    """One call in line."""

    __slots__ = ("booked_at", "number", "priority", "woken")

    def __init__(self, priority: Priority, number: int) -> None:
        self.priority = priority
        self.number = number
        self.booked_at: float | None = None  # its place in the window of the whole bot
        self.woken = asyncio.Event()

    def __lt__(self, other: "_Waiter") -> bool:
        return (self.priority, self.number) < (other.priority, other.number)


class _Lane:
    """One chat."""

    __slots__ = ("is_busy", "limits", "paused_until", "waiting")

    def __init__(self, limits: tuple[_Bucket | _Window, ...]) -> None:
        self.limits = limits
        self.is_busy = False
        self.paused_until = 0.0
        self.waiting: list[_Waiter] = []

    def ready_at(self, priority: Priority) -> float:
        """Return when a call may go, if none is running then."""
        at = self.paused_until
        for limit in self.limits:
            at = max(at, limit.free_at(FINAL_CALLS if priority is Priority.PREVIEW else 0))
        return at

    def take(self, now: float) -> None:
        self.is_busy = True
        for limit in self.limits:
            limit.add(now)

    def wake_first(self) -> None:
        if self.waiting and not self.is_busy:
            self.waiting[0].woken.set()

    def has_rested(self, now: float) -> bool:
        """Whether a new lane would be just like this one."""
        is_idle = not self.is_busy and not self.waiting and self.paused_until <= now
        return is_idle and all(limit.empty_at <= now for limit in self.limits)


class _Slot:
    """The right to make one call. A class, because a generator costs three times as much."""

    __slots__ = ("_chat", "_is_group", "_lane", "_limiter", "_priority")

    def __init__(self, limiter: "RateLimiter", chat: str, priority: Priority, *, is_group: bool) -> None:
        self._limiter = limiter
        self._chat = chat
        self._priority = priority
        self._is_group = is_group
        self._lane: _Lane | None = None

    async def __aenter__(self) -> None:
        lane = self._limiter.lane(self._chat, is_group=self._is_group)
        if not self._limiter.take_now(lane, self._priority):
            await self._limiter.wait_turn(lane, self._priority)
        self._lane = lane

    async def __aexit__(self, *exception: object) -> None:
        if self._lane is not None:
            self._limiter.release(self._chat, self._lane)


class RateLimiter:
    """Says when calls may be made. `clock` and `sleep` are in seconds."""

    def __init__(
        self, rates: Rates, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._sleep = sleep
        self._lanes: dict[str, _Lane] = {}
        self._overall = _overall(rates)
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """How many chats are remembered."""
        return len(self._lanes)

    def slot(self, chat: str, *, is_group: bool = False, priority: Priority = Priority.FINAL) -> AbstractAsyncContextManager[None]:
        """Wait for the turn; while the block runs, no other call of this chat runs."""
        return _Slot(self, chat, priority, is_group=is_group)

    def has_room(self, chat: str, *, is_group: bool = False, priority: Priority = Priority.PREVIEW) -> bool:
        """Whether `slot` would not wait: a preview that would is better left out."""
        lane = self._lanes.get(chat) or _Lane(self._limits(is_group=is_group))
        return self._is_free(lane, priority, self._clock())

    def wait_s(self, chat: str, *, is_group: bool = False) -> float:
        """Return how long a final would have to wait because of this chat's limits and pauses."""
        lane = self._lanes.get(chat) or _Lane(self._limits(is_group=is_group))
        return max(0.0, lane.ready_at(Priority.FINAL) - self._clock())

    def pause(self, chat: str, seconds: float) -> None:
        """Let nothing happen in this chat for a while, waiting calls included; other chats go on."""
        lane = self.lane(chat)
        lane.paused_until = max(lane.paused_until, self._clock() + seconds)

    def paused_s(self, chat: str) -> float:
        """Return for how long the chat still pauses."""
        lane = self._lanes.get(chat)
        return max(0.0, lane.paused_until - self._clock()) if lane else 0.0

    def lane(self, chat: str, *, is_group: bool = False) -> _Lane:
        lane = self._lanes.get(chat)
        if lane is None:
            self._forget_rested()
            lane = self._lanes[chat] = _Lane(self._limits(is_group=is_group))
        return lane

    def take_now(self, lane: _Lane, priority: Priority) -> bool:
        """Begin a call if that can be now."""
        now = self._clock()
        if not self._is_free(lane, priority, now):
            return False
        self._overall.add(now)
        lane.take(now)
        return True

    async def wait_turn(self, lane: _Lane, priority: Priority) -> None:
        """Begin a call as soon as that can be."""
        waiter = _Waiter(priority, next(self._numbers))
        insort(lane.waiting, waiter)
        try:
            while not await self._has_turn(lane, waiter):
                pass
            lane.take(self._clock())
        finally:
            lane.waiting.remove(waiter)
            lane.wake_first()  # unless the lane is ours now

    def release(self, chat: str, lane: _Lane) -> None:
        """The call has ended."""
        lane.is_busy = False
        lane.wake_first()
        if lane.has_rested(self._clock()):
            self._lanes.pop(chat, None)

    async def _has_turn(self, lane: _Lane, waiter: _Waiter) -> bool:
        """Return True at once if it is this call's turn now; else wait until it may be."""
        if lane.is_busy or lane.waiting[0] is not waiter:
            waiter.woken.clear()
            await waiter.woken.wait()
            return False
        now = self._clock()
        at = self._turn_at(lane, waiter, now)
        if at <= now:
            return True
        await self._sleep(max(at - now, SHORTEST_SLEEP_S))
        return False

    def _turn_at(self, lane: _Lane, waiter: _Waiter, now: float) -> float:
        """Return when the first in line may go, and take its place in the window of the whole bot."""
        at = lane.ready_at(waiter.priority)
        if at > now:
            waiter.booked_at = None  # whatever it had booked is over by then
            return at
        if waiter.booked_at is None:
            at = max(now, self._overall.free_at())
            if at > now and waiter.priority is not Priority.FINAL:
                return at
            self._overall.add(at)
            waiter.booked_at = at
        return waiter.booked_at

    def _is_free(self, lane: _Lane, priority: Priority, now: float) -> bool:
        return not lane.is_busy and not lane.waiting and max(lane.ready_at(priority), self._overall.free_at()) <= now

    def _limits(self, *, is_group: bool) -> tuple[_Bucket | _Window, ...]:
        rates = self._rates
        chat = (_Bucket(max(1, rates.chat_burst), 1 / rates.per_chat_s),) if rates.per_chat_s else ()
        group = (_Window(rates.group_per_min, MINUTE_S),) if is_group and rates.group_per_min else ()
        return (*chat, *group)

    def _forget_rested(self) -> None:
        """Look at the two lanes that were not looked at for longest: no sweep, and they do not pile up."""
        now = self._clock()
        for chat in list(itertools.islice(self._lanes, 2)):
            lane = self._lanes.pop(chat)
            if not lane.has_rested(now):
                self._lanes[chat] = lane


class _NoLimit(_Window):
    """Room for everybody."""

    def free_at(self, keep: int = 0) -> float:  # noqa: ARG002 - the signature of a limit
        return 0.0

    def add(self, at: float) -> None:
        """Nothing is counted."""


def _overall(rates: Rates) -> _Window:
    if not rates.overall_s:
        return _NoLimit(1, 1.0)
    count = max(1, int(rates.overall_s))
    return _Window(count, count / rates.overall_s)
