"""PostgreSQL: a transaction for each unit of work, again when the server asks for it.

Units run at READ COMMITTED: whatever is decided from rows that others change is read after the conversation's row was locked.
"""

import asyncio
import random
from functools import partial
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from storage.backend import T, Work
from storage.clock import Clock
from storage.config import StorageConfig
from storage.connections import open_connections
from storage.errors import DatabaseUnavailable
from storage.models import metadata
from storage.translate import is_worth_a_retry
from storage.unit_of_work import UnitOfWork
from storage.url import PostgresTarget

_TRIES = 5
_PAUSE_S = 0.02  # doubles from try to try, with jitter


class PostgresBackend:
    """A pool of connections to one PostgreSQL database."""

    dialect: Final = "postgresql"

    def __init__(self, target: PostgresTarget, config: StorageConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        try:
            self._engine = create_async_engine(target.url, pool_size=config.pool_size, max_overflow=config.pool_size, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise DatabaseUnavailable("PostgreSQL needs an extra: pip install 'kefu[postgres]'") from None
        event.listen(self._engine.sync_engine, "connect", partial(_limit_idleness, round(config.lease_s * 1000)))
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def connections(self) -> int:
        return open_connections(self._engine)

    async def read(self, work: Work[T]) -> T:
        async with self._reading.connect() as connection:
            return await self._run(work, connection)

    async def write(self, work: Work[T]) -> T:
        for attempt in range(_TRIES):
            try:
                async with self._engine.begin() as connection:
                    return await self._run(work, connection)
            except DBAPIError as error:
                if attempt == _TRIES - 1 or not is_worth_a_retry(error):
                    raise
            await asyncio.sleep(_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - only spreads the tries
        raise AssertionError("unreachable")

    async def scrub(self) -> None:
        """Vacuum the tables. Pages keep their place in the files until PostgreSQL writes over them, and so does its WAL."""
        async with self._engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in metadata.sorted_tables:
                await autocommit.exec_driver_sql(f'VACUUM "{table.name}"')

    async def close(self) -> None:
        await self._engine.dispose()

    async def _run(self, work: Work[T], connection: AsyncConnection) -> T:
        return await work(UnitOfWork(connection, self._config, self._clock))


def _limit_idleness(milliseconds: int, connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    """Have the server cut off a process that sleeps in the middle of a unit for longer than a lease: others wait for its locks.

    A unit waits for nothing but the database, so a process that is awake never comes near the limit.
    """
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
    cursor.close()
    connection.commit()
