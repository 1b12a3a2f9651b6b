"""A gate of limited width, passed strictly in order: who needs the whole width waits for it, and is not overtaken."""

import asyncio
from collections import deque


class Gate:
    """A first-in-first-out semaphore whose entrants have a width."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._used = 0
        self._inside = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def inside(self) -> int:
        """How many entrants are inside."""
        return self._inside

    @property
    def waiting(self) -> int:
        """How many entrants wait."""
        return len(self._queue)

    async def enter(self, width: int) -> None:
        """Wait for `width` of the gate. Cancelling gives up the place."""
        if not self._queue and self._fits(width):
            self._take(width)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((width, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(width)
            elif (width, turn) in self._queue:
                self._queue.remove((width, turn))
                self._admit()
            raise

    def leave(self, width: int) -> None:
        """Give back what enter() took."""
        self._used -= width
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._fits(self._queue[0][0]):
            width, turn = self._queue.popleft()
            if not turn.cancelled():
                self._take(width)
                turn.set_result(None)

    def _fits(self, width: int) -> bool:
        return self._used + width <= self.width

    def _take(self, width: int) -> None:
        self._used += width
        self._inside += 1
