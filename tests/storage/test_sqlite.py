"""SQLite: one writer, grouped commits, one owner."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import sqlite
from storage.clock import ManualClock
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.lockfile import control_socket_path, lock_path, read_holder
from storage.one_trip import OneTripConnection, driver_of
from storage.repositories.inbox import InboxRepository
from storage.testing import sqlite_config, temporary_database
from storage.unit_of_work import UnitOfWork
from tests.storage.world import accept, claim, item, say


class CommitGate:
    """Stands before each COMMIT: counts them, and holds them up while it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        self.commits = 0
        self.failure: Exception | None = None
        run = OneTripConnection.control

        async def control(connection: OneTripConnection, statement: str) -> None:
            if statement == "COMMIT":
                self.commits += 1
                self.reached.set()
                await self.open.wait()
                if self.failure is not None:
                    raise self.failure
            await run(connection, statement)

        monkeypatch.setattr(OneTripConnection, "control", control)


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> CommitGate:
    return CommitGate(monkeypatch)


async def test_nobody_is_answered_before_the_commit(gate: CommitGate) -> None:
    """Units that wait together share one COMMIT, and each caller goes on only after it."""
    async with temporary_database() as database:
        before = gate.commits
        gate.open.clear()
        gate.reached.clear()
        callers = [asyncio.create_task(say(database, str(number), chat=str(number))) for number in range(20)]
        await gate.reached.wait()
        assert not any(caller.done() for caller in callers)
        assert await database.read(lambda unit: unit.inbox.pending()) == 0
        gate.open.set()
        assert await asyncio.gather(*callers) == [1] * 20
        assert gate.commits - before <= 2


async def test_a_group_has_a_limit(gate: CommitGate) -> None:
    """No more than `group_limit` units share a COMMIT, so that nobody waits for ever."""
    async with temporary_database(group_limit=5) as database:
        before = gate.commits
        await asyncio.gather(*(say(database, str(number)) for number in range(20)))
        assert gate.commits - before >= 4


async def test_a_failed_commit_fails_the_whole_group(gate: CommitGate) -> None:
    """When COMMIT fails, every unit of the group gets the error, nothing is kept, and the next group works."""
    async with temporary_database() as database:
        gate.failure = sqlite3.OperationalError("disk I/O error")
        results = await asyncio.gather(*(say(database, str(number)) for number in range(3)), return_exceptions=True)
        assert {type(result).__name__ for result in results} == {"StorageError"}
        gate.failure = None
        assert await database.read(lambda unit: unit.inbox.pending()) == 0
        assert await say(database, "1") == 1


async def test_a_transaction_that_sqlite_gave_up_fails_the_whole_group() -> None:
    """A full disk rolls back everything, not only the unit that met it: then no unit of the group is acknowledged."""

    async def give_up(unit: UnitOfWork) -> None:
        await unit._context.connection.execute(text("ROLLBACK"))  # what SQLite does by itself when the disk is full
        raise RuntimeError("disk full")

    async with temporary_database() as database:
        results = await asyncio.gather(say(database, "1"), database.write(give_up), return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        assert await database.read(lambda unit: unit.inbox.pending()) == 0
        assert await say(database, "1") == 1


async def test_the_connection_settings_hold() -> None:
    """The writer runs with WAL, FULL, foreign keys and secure delete; a reader is query-only and never checkpoints."""

    async def setting(unit: UnitOfWork, name: str) -> object:
        return (await unit._context.connection.execute(text(f"PRAGMA {name}"))).scalar_one()

    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    async with temporary_database() as database:
        for name, value in expected.items():
            assert await database.write(lambda unit, name=name: setting(unit, name)) == value
            assert await database.read(lambda unit, name=name: setting(unit, name)) == value
        assert await database.read(lambda unit: setting(unit, "query_only")) == 1
        assert await database.read(lambda unit: setting(unit, "wal_autocheckpoint")) == 0


async def test_a_locked_file_is_busy(tmp_path: Path) -> None:
    """A foreign program that holds the write lock makes units fail as busy, not hang."""
    config = sqlite_config(tmp_path)
    database = await open_database(config)
    intruder = sqlite3.connect(tmp_path / "kefu.db", isolation_level=None)
    try:
        await database.write(lambda unit: unit._context.connection.execute(text("PRAGMA busy_timeout=0")))
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            await say(database, "1")
        intruder.execute("ROLLBACK")
        assert await say(database, "1") == 1
    finally:
        intruder.close()
        await database.close()


async def test_one_process_owns_the_file(tmp_path: Path) -> None:
    """A second opener is told which process and command has the file; after `close` it may have it."""
    config = sqlite_config(tmp_path)
    path = tmp_path / "kefu.db"
    database = await open_database(config, owner="kefu run --config shop.toml")
    try:
        with pytest.raises(DatabaseBusy, match=rf"process {os.getpid()} \(kefu run --config shop.toml\)"):
            await open_database(config)
        holder = read_holder(path)
        assert holder is not None
        assert (holder.pid, holder.control_socket) == (os.getpid(), str(control_socket_path(path)))
    finally:
        await database.close()
    assert read_holder(path) is None
    await (await open_database(config)).close()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    """A process that dies without a word leaves no lock behind."""
    code = (
        "import os, sys; from pathlib import Path; from storage.lockfile import FileLock; FileLock(Path(sys.argv[1]), 'dead'); os._exit(1)"
    )
    path = tmp_path / "kefu.db"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert json.loads(lock_path(path).read_text())["command"] == "dead"
    asyncio.run(_open_and_close(StorageConfig(f"sqlite:///{path}")))


async def _open_and_close(config: StorageConfig) -> None:
    await (await open_database(config)).close()


async def test_a_new_database_has_its_tables_and_its_privacy(tmp_path: Path) -> None:
    """Opening a path that does not exist makes a migrated database that only its owner can read."""
    path = tmp_path / "new" / "kefu.db"
    database = await open_database(StorageConfig(f"sqlite:///{path}"))
    try:
        assert await say(database, "1") == 1
        for file in (path, path.with_name("kefu.db-wal"), lock_path(path)):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        await database.close()


async def test_a_restart_frees_the_leases_of_the_dead(tmp_path: Path) -> None:
    """The owner of the file knows that nobody else works: what the last process had claimed is handed out at once."""
    config, clock = sqlite_config(tmp_path), ManualClock()
    first = await open_database(config, clock=clock)
    await say(first, "1")
    await claim(first, "dead")
    await first.close()
    second = await open_database(config, clock=clock)
    try:
        assert (await claim(second)).items[0].attempts == 2
    finally:
        await second.close()


async def test_every_way_out_ends_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a database is closed or never came to be open, no thread and no lock is left."""
    config = sqlite_config(tmp_path)
    await _open_and_close(config)
    before = _threads()
    await _open_and_close(config)

    async def fail(inbox: InboxRepository) -> None:
        raise OSError("half-way")

    monkeypatch.setattr(InboxRepository, "free_all_leases", fail)
    with pytest.raises(OSError, match="half-way"):
        await open_database(config)
    monkeypatch.undo()
    await _open_and_close(config)
    assert _threads() <= before


def _threads() -> set[str]:
    """Return the names of the threads, but for those that asyncio keeps in reserve, as many as it has had work for."""
    return {thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A path below a file is refused with a sentence, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match="file"):
        await open_database(StorageConfig(f"sqlite:///{tmp_path}/file/kefu.db"))


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Something else under that name is left as it is."""
    path = tmp_path / "kefu.db"
    path.write_bytes(b"this is a shopping list, long enough to be read as a header of a database file" * 20)
    with pytest.raises(DatabaseUnavailable):
        await open_database(StorageConfig(f"sqlite:///{path}"))
    assert path.read_bytes().startswith(b"this is a shopping list")


def test_an_old_sqlite_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kefu doctor` hears of a library with the WAL-reset bug, and of nothing when it is fixed."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert "3.51.3" in (sqlite.version_warning() or "")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert sqlite.version_warning() is None


async def test_only_the_writer_checkpoints(tmp_path: Path) -> None:
    """Closing the readers leaves the log; the writer, closed last, empties it into the file."""
    database = await open_database(sqlite_config(tmp_path))
    await accept(database, *(item(str(number)) for number in range(50)))
    await database.read(lambda unit: unit.inbox.pending())
    backend = database._backend
    assert isinstance(backend, sqlite.SqliteBackend)
    size = (tmp_path / "kefu.db-wal").stat().st_size
    await backend._close_readers()
    assert (tmp_path / "kefu.db-wal").stat().st_size == size > 0
    await database.close()
    assert not (tmp_path / "kefu.db-wal").exists()


async def test_scrub_leaves_no_byte_of_a_deleted_row(tmp_path: Path) -> None:
    """After erase and scrub the words are in no file, and the database works on."""
    database: Database = await open_database(sqlite_config(tmp_path))
    try:
        await accept(database, item("canary-4711", "ann"))
        user_id = await database.write(lambda unit: unit.users.ensure("telegram", "bot1", "ann"))
        await database.write(lambda unit: unit.users.erase(user_id.id))
        await database.scrub()
        assert not [path for path in tmp_path.iterdir() if b"canary-4711" in path.read_bytes()]
        assert await say(database, "2") == 1
    finally:
        await database.close()


async def test_quick_units_leave_room_for_others() -> None:
    """A crowd of units that never wait for anything does not keep other tasks from running."""
    async with temporary_database() as database:
        units = [asyncio.create_task(say(database, str(number))) for number in range(100)]
        turns = 0
        while not all(unit.done() for unit in units):
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 100


async def test_what_takes_time_runs_beside_the_loop() -> None:
    """A quick statement runs where it is called; one that may be long in the thread of the connection, in this unit and no later one."""

    async def where(unit: UnitOfWork) -> list[bool]:
        context = unit._context
        driver = await driver_of(context.connection)
        driver._conn.create_function("here", 0, lambda: threading.current_thread() is threading.main_thread())

        async def here() -> bool:
            return bool((await context.execute(text("SELECT here()"), None)).scalar())

        before = await here()
        await context.take_time()
        return [before, await here()]

    async with temporary_database() as database:
        for run in (database.read, database.write) * 2:
            assert await run(where) == [True, False]
