"""Databases for all tests: every test that asks for `database` runs on SQLite and on PostgreSQL. PostgreSQL is never skipped."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from storage.clock import ManualClock
from storage.config import StorageConfig
from storage.database import Database
from storage.testing import drop_postgres, postgres_config, sqlite_config, temporary_database, temporary_postgres
from tests.postgres_server import running_server

OpenDatabase = Callable[..., AbstractAsyncContextManager[Database]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started at the first test that asks for it."""
    with running_server() as url:
        yield url


@pytest.fixture
def clock() -> ManualClock:
    """The time of `database`; a test moves it by hand."""
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Which database a test of `database` runs on."""
    return request.param


@pytest.fixture
def open_temporary(dialect: str, request: pytest.FixtureRequest) -> OpenDatabase:
    """A function that gives a new, empty database: `async with open_temporary(clock, max_attempts=1) as database`."""
    if dialect == "sqlite":
        return temporary_database
    url: str = request.getfixturevalue("postgres_url")

    def open_on_server(clock: ManualClock | None = None, **settings: Any) -> AbstractAsyncContextManager[Database]:
        return temporary_postgres(url, clock, **settings)

    return open_on_server


@pytest.fixture
async def database(open_temporary: OpenDatabase, clock: ManualClock) -> AsyncIterator[Database]:
    """An empty database whose time is `clock` and that gives each item three attempts."""
    async with open_temporary(clock, max_attempts=3) as opened:
        yield opened


@pytest.fixture
def storage_config(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StorageConfig]:
    """The settings of a migrated database that is not open."""
    if dialect == "sqlite":
        yield sqlite_config(tmp_path)
        return
    url: str = request.getfixturevalue("postgres_url")
    config = postgres_config(url)
    yield config
    drop_postgres(url, config)
