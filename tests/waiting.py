"""Waiting for something that has no event: a condition with a limit, never a fixed time."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], timeout_s: float = 1.0) -> None:
    """Return as soon as `condition` holds; fail when it does not within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - a snapshot is asked: there is no event to wait for
            await asyncio.sleep(0.002)
