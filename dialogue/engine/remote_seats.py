"""The queue before the servers: no more of our requests run on one than it has slots; who finds them all taken waits.

    take ─► the conversation's own server ─► the next with a free slot ─► wait, first come, first served ─► deadline
                                                            └► no server is up: examine one, then come again

What other processes run there is not known here: each brings its own bound (`remote.slots`), and the servers' 429 is the last word.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dialogue.engine.replicas import WAIT, Replica, choose
from dialogue.errors import DeadlineExceeded, EngineError, EngineOverloaded, EngineUnavailable


@dataclass(frozen=True, slots=True)
class Unexamined:
    """A server that may be used once it was examined; no slot is taken there, so that all who wait can share one examination."""

    replica: Replica


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """One request that wants a slot."""

    key: str
    tried: frozenset[str]
    seat: "asyncio.Future[Replica | Unexamined | EngineError | None]"


class Seats:
    """Gives out the slots of the servers. Whoever took one gives it back with `leave`."""

    def __init__(self, replicas: Sequence[Replica], clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas = replicas
        self._clock = clock
        self._waiters: list[_Waiter] = []  # in the order of their arrival

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return len(self._waiters)

    async def take(self, key: str, tried: Collection[str], deadline: float) -> Replica | Unexamined | None:
        """Return a server with a slot for this request, or one to examine before coming again; None when all of them were tried.

        Raises EngineOverloaded when those that are left have asked for a pause, DeadlineExceeded, EngineUnavailable once closed.
        """
        waiter = _Waiter(key, frozenset(tried), asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self.look()
        seated = False
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
                seat = await waiter.seat
            seated = True
        except TimeoutError:
            raise DeadlineExceeded("the deadline of the request passed") from None
        finally:
            if not seated:
                self._withdraw(waiter)
        if isinstance(seat, EngineError):
            raise seat
        return seat

    def leave(self, replica: Replica) -> None:
        """Give a slot back."""
        replica.running -= 1
        self.look()

    def look(self) -> None:
        """Let in who can go now. Call it when a server came back."""
        for waiter in tuple(self._waiters):
            choice = choose(self._replicas, waiter.key, self._clock(), waiter.tried)
            if choice is WAIT or waiter.seat.done():  # done: cancelled just now
                continue
            self._waiters.remove(waiter)
            if isinstance(choice, Replica) and choice.facts is None:
                waiter.seat.set_result(Unexamined(choice))
            elif isinstance(choice, Replica):
                choice.running += 1
                waiter.seat.set_result(choice)
            else:
                waiter.seat.set_result(self._pause(waiter.tried))

    def close(self) -> None:
        """Send away who waits."""
        for waiter in self._waiters:
            if not waiter.seat.done():
                waiter.seat.set_result(EngineUnavailable("the engine is closed"))
        self._waiters.clear()

    def _withdraw(self, waiter: _Waiter) -> None:
        """Take back a request whose caller has gone, and the slot that it was given in the same moment."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif not waiter.seat.cancelled() and isinstance(seat := waiter.seat.result(), Replica):
            self.leave(seat)

    def _pause(self, tried: Collection[str]) -> EngineOverloaded | None:
        """Return when to come back, if servers that were not tried have asked for a pause."""
        now = self._clock()
        resting = [replica for replica in self._replicas if replica.url not in tried and replica.is_resting(now)]
        if not resting:
            return None
        first = min(resting, key=lambda replica: replica.not_before)
        return EngineOverloaded(f"{first.label} {first.detail}", first.not_before - now)
