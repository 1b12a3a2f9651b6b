"""Backup and restore, on SQLite and PostgreSQL."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from storage import schema
from storage.backup import backup, check, restore
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.errors import BackupFailed, DatabaseBusy, SchemaMismatch
from storage.ids import new_id
from storage.records import NewInboxItem, NewTurn, TurnStatus
from storage.testing import drop_postgres, postgres_config, sqlite_config
from storage.unit_of_work import UnitOfWork
from tests.sizes import record_proof, size


@pytest.fixture
def config(storage_config: StorageConfig) -> StorageConfig:
    """The settings of an empty database on SQLite, then on PostgreSQL."""
    return storage_config


@asynccontextmanager
async def opened(config: StorageConfig) -> AsyncIterator[Database]:
    database = await open_database(config, owner="test")
    try:
        yield database
    finally:
        await database.close()


async def answer(database: Database, number: int, *, chat: str = "1") -> None:
    """Let one message come in and be answered."""
    item = NewInboxItem(event_id=f"{chat}-{number}", chat=chat, raw=f"question {number}".encode())
    await database.write(lambda unit: unit.inbox.accept("test", "me", [item]))

    async def reply(unit: UnitOfWork) -> None:
        claim = await unit.inbox.claim("worker")
        assert claim is not None
        user = await unit.users.ensure("test", "me", claim.conversation.chat)
        turn = NewTurn(
            id=new_id(),
            user_id=user.id,
            skill="chat",
            status=TurnStatus.ANSWERED,
            user_text=claim.items[0].raw.decode(),
            reply_text=f"answer {number}",
            inbox_ids=(claim.items[0].id,),
            document=b"\x00\xff" * 10,
        )
        await unit.turns.commit(claim, turn, reply=turn.reply_text, owner_epoch=claim.conversation.owner_epoch)
        await unit.inbox.release(claim)

    await database.write(reply)


async def everything(database: Database) -> list[tuple[str, int, str]]:
    """Return (chat, seq, reply) of every turn."""

    async def look(unit: UnitOfWork) -> list[tuple[str, int, str]]:
        found: list[tuple[str, int, str]] = []
        for conversation in await unit.conversations.list(limit=100):
            turns = await unit.turns.list(conversation.id, limit=1000)
            found += [(conversation.chat, turn.seq, turn.reply_text) for turn in turns]
        return sorted(found)

    return await database.read(look)


async def test_a_backup_under_load_is_whole_and_a_prefix_of_what_was_written(config: StorageConfig, tmp_path: Path) -> None:
    """Each backup that is taken while turns are committed passes the integrity check and holds the first n turns, with none missing."""
    count, seed = size("backup_under_load", small=4, proof=100), 20261123
    chance = random.Random(seed)
    acknowledged = 0
    progress = asyncio.Semaphore(0)

    async with opened(config) as database:
        stop = asyncio.Event()

        async def load() -> None:
            nonlocal acknowledged
            while not stop.is_set():
                await answer(database, acknowledged + 1)
                acknowledged += 1
                progress.release()

        writer = asyncio.create_task(load())
        for number in range(count):
            for _ in range(chance.randint(1, 5)):
                await progress.acquire()
            before, target = acknowledged, tmp_path / f"{number}.db"
            await asyncio.to_thread(backup, config, target)
            seqs = _seqs(target)
            assert seqs == list(range(1, len(seqs) + 1))
            assert before <= len(seqs) <= acknowledged + 1
        stop.set()
        await writer
    result = f"{config.url.partition(':')[0]}: every backup whole, the last one with {acknowledged} turns written beside"
    record_proof(f"backup_under_load_{config.url.partition(':')[0]}", seed=seed, size=count, result=result)


def _seqs(path: Path) -> list[int]:
    check(path)
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT seq FROM turns ORDER BY seq")]
    finally:
        connection.close()


async def test_a_restored_database_is_what_was_backed_up_and_goes_on(config: StorageConfig, tmp_path: Path) -> None:
    """Restore brings back exactly the backup, and new rows are numbered after the old ones."""
    async with opened(config) as database:
        for number in range(3):
            await answer(database, number)
        kept = await everything(database)
        await asyncio.to_thread(backup, config, tmp_path / "backup.db")
        await answer(database, 3)
    restore(config, tmp_path / "backup.db")
    async with opened(config) as database:
        assert await everything(database) == kept
        await answer(database, 3)
        await answer(database, 4, chat="2")
        assert len(await everything(database)) == 5


async def test_a_backup_moves_from_one_database_to_the_other(tmp_path: Path, postgres_url: str) -> None:
    """What was written on SQLite is there after a restore into PostgreSQL, and the other way round."""
    (tmp_path / "live").mkdir()
    first, second = sqlite_config(tmp_path / "live"), postgres_config(postgres_url)
    try:
        async with opened(first) as database:
            await answer(database, 1)
            kept = await everything(database)
            await asyncio.to_thread(backup, first, tmp_path / "there.db")
        restore(second, tmp_path / "there.db")
        async with opened(second) as database:
            assert await everything(database) == kept
            await answer(database, 2)
            kept = await everything(database)
        backup(second, tmp_path / "back.db")
        restore(first, tmp_path / "back.db")
        async with opened(first) as database:
            assert await everything(database) == kept
    finally:
        drop_postgres(postgres_url, second)


async def test_a_damaged_backup_is_refused_and_nothing_is_replaced(config: StorageConfig, tmp_path: Path) -> None:
    """A backup with broken bytes is not restored; the database stays as it was."""
    async with opened(config) as database:
        await answer(database, 1)
        kept = await everything(database)
        await asyncio.to_thread(backup, config, tmp_path / "backup.db")
    damaged = tmp_path / "damaged.db"
    data = bytearray((tmp_path / "backup.db").read_bytes())
    data[5000:9000] = bytes(4000)
    damaged.write_bytes(data)
    with pytest.raises(BackupFailed, match=r"damaged|not a backup"):
        restore(config, damaged)
    async with opened(config) as database:
        assert await everything(database) == kept


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\x00" + bytes(100)])
def test_what_is_no_backup_is_refused(config: StorageConfig, tmp_path: Path, content: bytes) -> None:
    """An empty file, a text and a broken header are not restored."""
    (tmp_path / "x.db").write_bytes(content)
    with pytest.raises(BackupFailed, match="not a backup"):
        restore(config, tmp_path / "x.db")


def test_an_existing_file_is_never_overwritten(config: StorageConfig, tmp_path: Path) -> None:
    """A backup onto a file that is there fails and leaves it alone."""
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BackupFailed, match="already there"):
        backup(config, tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_not_there_is_named(config: StorageConfig, tmp_path: Path) -> None:
    """A backup into something that is no folder fails with a sentence and leaves nothing."""
    (tmp_path / "file").touch()
    with pytest.raises(BackupFailed, match="could not be written"):
        backup(config, tmp_path / "file" / "backup.db")


async def test_restore_beside_a_running_owner_is_refused(tmp_path: Path) -> None:
    """While another process has the SQLite file, restore names it and changes nothing."""
    (tmp_path / "live").mkdir()
    config = sqlite_config(tmp_path / "live")
    async with opened(config) as database:
        await answer(database, 1)
        await asyncio.to_thread(backup, config, tmp_path / "backup.db")
        with pytest.raises(DatabaseBusy, match="process"):
            restore(config, tmp_path / "backup.db")
        assert len(await everything(database)) == 1


async def test_restore_beside_a_busy_worker_is_refused(tmp_path: Path, postgres_url: str) -> None:
    """While a worker has a conversation on PostgreSQL, restore is refused."""
    config = postgres_config(postgres_url)
    try:
        async with opened(config) as database:
            await asyncio.to_thread(backup, config, tmp_path / "backup.db")
            item = NewInboxItem(event_id="1", chat="1", raw=b"hello")
            await database.write(lambda unit: unit.inbox.accept("test", "me", [item]))
            assert await database.write(lambda unit: unit.inbox.claim("worker")) is not None
            with pytest.raises(DatabaseBusy, match="working"):
                await asyncio.to_thread(restore, config, tmp_path / "backup.db")
    finally:
        drop_postgres(postgres_url, config)


def test_a_backup_of_a_newer_kefu_is_refused(config: StorageConfig, tmp_path: Path) -> None:
    """A backup whose schema this program does not know is not restored."""
    backup(config, tmp_path / "backup.db")
    connection = sqlite3.connect(tmp_path / "backup.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(SchemaMismatch, match="newer"):
        restore(config, tmp_path / "backup.db")
    assert schema.current(config) == schema.head()


def test_a_backup_is_private(config: StorageConfig, tmp_path: Path) -> None:
    """Only its owner can read a backup."""
    backup(config, tmp_path / "backup.db")
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("damage", ["header", "pages"])
async def test_a_damaged_database_is_replaced(tmp_path: Path, damage: str) -> None:
    """What a backup is for: a database that SQLite cannot read any more is replaced by it."""
    (tmp_path / "live").mkdir()
    config = sqlite_config(tmp_path / "live")
    async with opened(config) as database:
        await answer(database, 1)
        kept = await everything(database)
        await asyncio.to_thread(backup, config, tmp_path / "backup.db")
    live = tmp_path / "live" / "kefu.db"
    data = bytearray(live.read_bytes())
    data[slice(0, 100) if damage == "header" else slice(4096, 60_000)] = bytes(100 if damage == "header" else 60_000 - 4096)
    live.write_bytes(data)
    restore(config, tmp_path / "backup.db")
    async with opened(config) as database:
        assert await everything(database) == kept


async def test_what_only_the_log_of_a_backup_holds_is_restored(tmp_path: Path) -> None:
    """A file that was saved together with its write-ahead log is restored with what the log holds."""
    (tmp_path / "live").mkdir()
    (tmp_path / "saved").mkdir()
    config = sqlite_config(tmp_path / "live")
    async with opened(config) as database:
        await answer(database, 1)
        kept = await everything(database)
        for name in ("kefu.db", "kefu.db-wal"):
            (tmp_path / "saved" / name).write_bytes((tmp_path / "live" / name).read_bytes())
    restore(config, tmp_path / "saved" / "kefu.db")
    async with opened(config) as database:
        assert await everything(database) == kept
