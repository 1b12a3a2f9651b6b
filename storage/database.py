"""The face of storage: open a database, read and write in units of work, close it.

    database = await open_database(StorageConfig("sqlite:///kefu.db"))
    try:
        new = await database.write(lambda unit: unit.inbox.accept("terminal", "me", items))
    finally:
        await database.close()

Work is shielded: a caller that is cancelled stops waiting, the unit still ends properly, and its connection goes back whole.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any

from storage import schema
from storage.backend import Backend, Dialect, T, Work
from storage.clock import Clock, DatabaseClock, HostClock
from storage.config import StorageConfig
from storage.errors import DatabaseUnavailable
from storage.lockfile import FileLock
from storage.postgres import PostgresBackend
from storage.sqlite import SqliteBackend, prepare_file
from storage.translate import translated
from storage.unit_of_work import UnitOfWork
from storage.url import PostgresTarget, SqliteTarget, parse_url

_log = logging.getLogger(__name__)
_in_unit: ContextVar[bool] = ContextVar("in_unit", default=False)


class Database:
    """One open database. One for each process; safe for all tasks of one event loop."""

    def __init__(self, backend: Backend, lock: FileLock | None = None) -> None:
        self._backend = backend
        self._lock = lock
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def dialect(self) -> Dialect:
        """Which kind of database this is."""
        return self._backend.dialect

    @property
    def connections(self) -> int:
        """How many connections this process has open."""
        return self._backend.connections

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent state; it cannot write. Raises what `work` raises, and StorageError."""
        return await self._shielded(self._backend.read(_alone(work)))

    async def write(self, work: Work[T]) -> T:
        """Run `work` and return its result after COMMIT.

        If `work` raises, nothing of this unit is kept and the error comes back. On PostgreSQL `work` may run more than once.
        Raises StorageError when the commit fails; then nothing of the unit is kept either, unless the connection was lost just then.
        """
        return await self._shielded(self._backend.write(_alone(work)))

    async def scrub(self) -> None:
        """Remove the bytes of deleted rows from the files: after `users.erase`. Rewrites the database, so it takes a while."""
        await self._shielded(self._backend.scrub())

    async def close(self) -> None:
        """Wait for running units, then dispose of every connection. Safe to call twice."""
        if not self._closed:
            self._closed = True
            await _to_the_end(self._finish)

    async def _finish(self) -> None:
        try:
            while self._running:
                await asyncio.wait(self._running)
            await self._backend.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed or _in_unit.get():
            work.close()
            raise DatabaseUnavailable("the database is closed") if self._closed else RuntimeError("a unit of work cannot begin another one")
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        with translated():
            return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("unit_failed", extra={"error": type(error).__name__})


def _alone(work: Work[T]) -> Work[T]:
    """Let `work` be noticed when it begins another unit: on SQLite it would wait for itself for ever."""

    async def noticed(unit: UnitOfWork) -> T:
        token = _in_unit.set(True)
        try:
            return await work(unit)
        finally:
            _in_unit.reset(token)

    return noticed


async def open_database(config: StorageConfig, *, clock: Clock | None = None, owner: str = "kefu") -> Database:
    """Open the database of `config`; a new, empty one gets its tables first.

    `owner` says in messages to other processes which command has a SQLite file. Raises DatabaseUrlInvalid, DatabaseBusy (another
    process has the SQLite file), SchemaMismatch (it needs `kefu db upgrade`, or a newer Kefu) or DatabaseUnavailable.
    """
    target = parse_url(config.url)
    if isinstance(target, SqliteTarget):
        return await _open_sqlite(target, config, clock or HostClock(), owner)
    return await _open_postgres(target, config, clock or DatabaseClock())


async def _open_sqlite(target: SqliteTarget, config: StorageConfig, clock: Clock, owner: str) -> Database:
    try:
        prepare_file(target.path)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot open {target.path}: {error.strerror}") from None
    async with AsyncExitStack() as undo:
        lock = FileLock(target.path, owner)
        undo.callback(lock.release)
        with translated():
            await _to_the_end(lambda: asyncio.to_thread(schema.make_ready, target, config))
            backend = SqliteBackend(target.path, config, clock)
            undo.push_async_callback(_to_the_end, backend.close)
            await backend.open()
        undo.pop_all()
    return Database(backend, lock)


async def _open_postgres(target: PostgresTarget, config: StorageConfig, clock: Clock) -> Database:
    with translated():
        await _to_the_end(lambda: asyncio.to_thread(schema.make_ready, target, config))
        return Database(PostgresBackend(target, config, clock))


async def _to_the_end(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work` to its end even if the caller is cancelled: a forgotten connection keeps its thread and the file."""
    task = asyncio.create_task(work())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
