"""Time comes from the database and does not jump when somebody sets a clock."""

import time

import pytest

from storage.clock import HostClock
from storage.database import Database
from storage.testing import temporary_database, temporary_postgres
from storage.unit_of_work import UnitOfWork

_HOUR_MS = 3_600_000


async def now(database: Database) -> int:
    """Return the time of a unit."""
    return await database.read(lambda unit: unit.now())


async def test_sqlite_tells_the_time() -> None:
    """The time of a new database is the host's, in milliseconds."""
    async with temporary_database() as database:
        assert abs(await now(database) - time.time_ns() // 1_000_000) < 5000


async def test_postgres_tells_the_time(postgres_url: str) -> None:
    """The time is the server's, and everything in one unit happens at one time."""

    async def twice(unit: UnitOfWork) -> bool:
        first = await unit.now()
        await unit.inbox.pending()
        return first == await unit.now()

    async with temporary_postgres(postgres_url) as database:
        assert abs(await now(database) - time.time_ns() // 1_000_000) < 5000
        assert await database.read(twice)


@pytest.mark.parametrize("jump", [-_HOUR_MS, _HOUR_MS])
async def test_a_wall_clock_that_is_set_moves_no_lease(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    """An hour forward or back on the host changes nothing for leases and retries of a running process."""
    async with temporary_database(HostClock()) as database:
        before, real = await now(database), time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + jump * 1_000_000)
        assert 0 <= await now(database) - before < 5000


async def test_a_host_without_a_boot_clock_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no clock that counts through sleep, the monotonic one serves."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    async with temporary_database(HostClock()) as database:
        first = await now(database)
        assert first <= await now(database)
