"""Time as storage sees it: integer milliseconds since the Unix epoch, by the database's clock.

Leases and retries compare times that were written by several processes, so the time comes from the database, not from
the host of a worker. SQLite has no clock of its own; there, time is the host's, but it runs on between steps of the
wall clock: a clock that is set back or forward neither steals a lease nor leaves a row stuck.
"""

import time
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_POSTGRES_NOW = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")


class Clock(Protocol):
    """Where a unit of work takes its time from."""

    async def now_ms(self, connection: AsyncConnection) -> int:
        """Return the time, in milliseconds since the Unix epoch."""
        ...


class DatabaseClock:
    """The clock of the database server."""

    async def now_ms(self, connection: AsyncConnection) -> int:
        return int((await connection.execute(_POSTGRES_NOW)).scalar_one())


class HostClock:
    """The host's wall clock at the start, carried on by a clock that nobody can set."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - _steady_ns()

    async def now_ms(self, connection: AsyncConnection) -> int:  # noqa: ARG002 - SQLite runs in this process
        return (self._offset_ns + _steady_ns()) // 1_000_000


class ManualClock:
    """A clock for tests: stands still until it is moved."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    async def now_ms(self, connection: AsyncConnection) -> int:  # noqa: ARG002
        return self.now

    def advance(self, milliseconds: int) -> None:
        """Move the time on."""
        self.now += milliseconds


def _steady_ns() -> int:
    # CLOCK_BOOTTIME also counts while a laptop sleeps; only Linux has it.
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boot_clock is None else time.clock_gettime_ns(boot_clock)
