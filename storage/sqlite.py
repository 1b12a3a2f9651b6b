"""SQLite: one connection writes and checkpoints, several read.

The writer groups waiting units: one BEGIN IMMEDIATE, a savepoint for each unit, one COMMIT, and only then the answers to those
who wait. With `synchronous=FULL` a COMMIT costs one sync of the disk, so many small units share it.

SQLite before 3.51.3 can corrupt a file when several connections write or checkpoint its WAL at the same time. Here only one ever
does: the writer is one connection, readers are `query_only` and are closed before it, and the lock file keeps other processes out.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from storage import one_trip
from storage.backend import T, Work
from storage.clock import Clock
from storage.config import StorageConfig
from storage.connections import open_connections
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.translate import translate
from storage.unit_of_work import UnitOfWork

WAL_RESET_FIXED: Final = (3, 51, 3)
_BUSY_TIMEOUT_MS = 5000  # against programs that ignore the lock file, such as the sqlite3 shell


def sqlite_pragmas(config: StorageConfig) -> tuple[str, ...]:  # noqa: ARG001 - durability is no setting; the power-cut test lowers it by hand
    """Return the statements that every writing connection begins with."""
    return (
        f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",  # NORMAL loses commits at a power cut
        "PRAGMA foreign_keys=ON",
        "PRAGMA secure_delete=ON",
    )


def sqlite_reader_pragmas(config: StorageConfig) -> tuple[str, ...]:
    """Return the statements that every reading connection begins with."""
    return (*sqlite_pragmas(config), "PRAGMA query_only=ON", "PRAGMA wal_autocheckpoint=0")


def version_warning() -> str | None:
    """Return what `kefu doctor` should say about the SQLite library; None when it is free of the WAL-reset bug."""
    if sqlite3.sqlite_version_info >= WAL_RESET_FIXED:
        return None
    return (
        f"SQLite {sqlite3.sqlite_version} can corrupt a file that several connections write at once (fixed in 3.51.3). "
        "Kefu writes over one connection only; do not open the file with other programs while it runs."
    )


def prepare_file(path: Path) -> None:
    """Make the folder and an empty file that only its owner can read, if they do not exist.

    A file that is there is not touched: opening and closing it here would drop SQLite's own locks on it in this process.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


@dataclass(slots=True)
class _Unit:
    """A piece of work and whoever waits for it."""

    work: Work[Any]
    waiter: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        """Tell the waiter. One who was cancelled meanwhile gets nothing, but the work stands."""
        if self.waiter.done():
            return
        if self.error is None:
            self.waiter.set_result(self.result)
        else:
            self.waiter.set_exception(self.error)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One connection and its faces."""

    connection: AsyncConnection
    control: one_trip.OneTripConnection  # for statements that frame the work
    quick: Connection  # for short statements

    @classmethod
    async def on(cls, engine: AsyncEngine) -> "_Opened":
        """Connect."""
        connection = await engine.connect()
        control = await one_trip.driver_of(connection)
        return cls(connection, control, one_trip.without_trips(control))

    async def close(self) -> None:
        """Give the connection back to its engine."""
        await self.connection.close()


class SqliteBackend:
    """The only owner of a SQLite file."""

    dialect: Final = "sqlite"

    def __init__(self, path: Path, config: StorageConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._writing = _engine(path, sqlite_pragmas(config), connections=1)
        self._reading = _engine(path, sqlite_reader_pragmas(config), connections=config.pool_size)
        self._readers = asyncio.Semaphore(config.pool_size)
        self._idle: list[_Opened] = []  # readers; to get one from SQLAlchemy's pool and give it back costs more than a read
        self._writer: _Opened | None = None
        self._waiting: deque[_Unit] = deque()
        self._writing_task: asyncio.Task[None] | None = None
        self._turnstile = asyncio.Lock()  # a group, or one statement that needs the writer alone

    @property
    def connections(self) -> int:
        return open_connections(self._writing, self._reading)

    async def open(self) -> None:
        """Connect, and free the leases that a dead process left: nobody else has this file."""
        self._writer = await _Opened.on(self._writing)
        await self.write(_free_leases)

    async def read(self, work: Work[T]) -> T:
        async with self._reader() as reader:
            reader.control.is_quick = True
            await reader.control.control("BEGIN")
            try:
                return await work(UnitOfWork(reader.connection, self._config, self._clock, reader.quick))
            finally:
                await reader.control.control("ROLLBACK")

    async def write(self, work: Work[T]) -> T:
        unit = _Unit(work, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        if self._writing_task is None:
            self._writing_task = asyncio.create_task(self._write_groups())
        return await unit.waiter

    async def scrub(self) -> None:
        """Rewrite the file without free pages and empty the WAL. Raises DatabaseBusy when a reader stays in the way."""
        async with self._turnstile:
            for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                result = await self._opened.connection.exec_driver_sql(statement)
                if statement != "VACUUM" and result.one()[0]:
                    raise DatabaseBusy("a reader kept the write-ahead log from being emptied; try again")

    async def close(self) -> None:
        # The last connection to close checkpoints: that has to be the writer.
        await self._close_readers()
        if self._writer is not None:
            await self._writer.close()
        await self._writing.dispose()

    async def _close_readers(self) -> None:
        while self._idle:
            await self._idle.pop().close()
        await self._reading.dispose()

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator["_Opened"]:
        async with self._readers:
            reader = self._idle.pop() if self._idle else await _Opened.on(self._reading)
            try:
                yield reader
            finally:
                self._idle.append(reader)

    @property
    def _opened(self) -> "_Opened":
        if self._writer is None:
            raise RuntimeError("the database is not open")
        return self._writer

    async def _write_groups(self) -> None:
        try:
            while self._waiting:
                async with self._turnstile:
                    await self._write_group()
        finally:
            self._writing_task = None

    async def _write_group(self) -> None:
        """Run waiting units, also those that come meanwhile, and answer all of them after one COMMIT."""
        group: list[_Unit] = []
        try:
            await self._execute("BEGIN IMMEDIATE")
            while self._waiting and len(group) < self._config.group_limit:
                group.append(self._waiting.popleft())
                await self._run_unit(group[-1])
                await asyncio.sleep(0)  # quick units do not wait for anything, but others want to run too
            await self._execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(Exception):  # SQLite has often rolled back already, and the first error counts
                await self._execute("ROLLBACK")
            self._fail(group or self._take_group(), error)
            if not isinstance(error, Exception):
                raise
        else:
            self._answer(group)

    async def _run_unit(self, unit: _Unit) -> None:
        await self._execute("SAVEPOINT unit", is_quick=True)
        try:
            writer = self._opened
            unit.result = await unit.work(UnitOfWork(writer.connection, self._config, self._clock, writer.quick))
        except (Exception, asyncio.CancelledError) as error:
            if _is_being_cancelled():
                raise
            unit.error = translate(error)
            # Fails if SQLite rolled back the whole transaction, a full disk for example. Then the whole group fails.
            await self._execute("ROLLBACK TO unit")
        await self._execute("RELEASE unit", is_quick=True)

    async def _execute(self, statement: str, *, is_quick: bool = False) -> None:
        control = self._opened.control
        control.is_quick = is_quick
        await control.control(statement)

    def _answer(self, group: list[_Unit]) -> None:
        for unit in group:
            unit.answer()

    def _fail(self, group: list[_Unit], error: BaseException) -> None:
        reason = translate(error) if isinstance(error, Exception) else DatabaseUnavailable("the program is ending")
        for unit in group:
            unit.error = reason
            unit.answer()

    def _take_group(self) -> list[_Unit]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._config.group_limit))]


def _is_being_cancelled() -> bool:
    """Return whether somebody ends this task, and not the unit itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _free_leases(unit: UnitOfWork) -> None:
    await unit.inbox.free_all_leases()


def _engine(path: Path, pragmas: tuple[str, ...], *, connections: int) -> AsyncEngine:
    """Return an engine in whose connections nothing begins or ends a transaction but the statements of this module."""
    engine = create_async_engine(
        "sqlite+aiosqlite:///",
        async_creator=lambda: one_trip.connect(path),
        isolation_level="AUTOCOMMIT",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_reset_on_return=None,
    )

    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine.sync_engine, "connect", prepare)
    return engine
