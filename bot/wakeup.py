"""An alarm clock for a task that waits for work: rung by others, or by its own timers. Knows nothing of the work."""

import asyncio


class Wakeup:
    """Rings are remembered until somebody waits, so none is missed between looking for work and waiting for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiting task now, or the next one that waits."""
        self._event.set()

    def ring_in(self, delay_s: float) -> None:
        """Ring after `delay_s` seconds; 0 = now."""
        if delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, self._event.set)
        else:
            self._event.set()

    async def wait(self, limit_s: float) -> None:
        """Return at the next ring, at once if there was one since the last call, or after `limit_s` seconds."""
        try:
            async with asyncio.timeout(limit_s):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()
