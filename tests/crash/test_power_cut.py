"""Committed means durable: after a power cut, every acknowledged row is there.

The statements are the store's own. A workload runs on the real store while the SQLite driver tells each statement; they are then run again
on a disk that keeps only synced bytes (`power_cut.py`), and the power fails many times on the way.
"""

import asyncio
import random
import re
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import apsw
import pytest

from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.ids import new_id
from storage.records import NewInboxItem, NewTurn, TurnStatus
from storage.sqlite import sqlite_pragmas
from storage.testing import sqlite_config
from storage.unit_of_work import UnitOfWork
from tests.crash.power_cut import Disk, disk_with, mounted
from tests.sizes import record_proof, size

FILE = "kefu.db"
SEED = 20261123
CHATS = 4
ROWS = """SELECT 'inbox', event_id, state FROM inbox
UNION ALL SELECT 'turn', id, '' FROM turns
UNION ALL SELECT 'outbox', turn_id, state FROM outbox"""


def traced_connections(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let every SQLite connection that is opened from now on write down its statements, parameters filled in."""
    logs: list[list[str]] = []
    connect = sqlite3.connect

    def traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # pyrefly: ignore
        log: list[str] = []
        logs.append(log)
        connection.set_trace_callback(log.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return logs


async def converse(database: Database, chat: int, messages: int) -> None:
    """Let messages come in and be answered."""
    for number in range(messages):
        item = NewInboxItem(event_id=f"{chat}-{number}", chat=str(chat), raw=b"\x00 hello " * 20)
        await database.write(partial(_accept, item=item, offset=number))
        await database.write(_answer)


async def _accept(unit: UnitOfWork, item: NewInboxItem, offset: int) -> None:
    await unit.inbox.accept("test", "me", [item], offset=offset)


async def _answer(unit: UnitOfWork) -> None:
    claim = await unit.inbox.claim("worker")
    if claim is None:
        return
    user = await unit.users.ensure("test", "me", claim.conversation.chat)
    ids = tuple(item.id for item in claim.items)
    turn = NewTurn(new_id(), user.id, "chat", TurnStatus.ANSWERED, "a question", "an answer " * 30, ids, document=b"\x01" * 500)
    await unit.turns.commit(claim, turn, reply=turn.reply_text, owner_epoch=claim.conversation.owner_epoch)
    await unit.inbox.release(claim)


async def statements_of_the_store(config: StorageConfig, monkeypatch: pytest.MonkeyPatch, messages: int) -> list[str]:
    """Return what the store's writing connection executes while some conversations go on at the same time."""
    with monkeypatch.context() as patched:
        logs = traced_connections(patched)
        database = await open_database(config, owner="test")
        try:
            await asyncio.gather(*(converse(database, chat, messages) for chat in range(CHATS)))
        finally:
            await database.close()
    (writer,) = [log for log in logs if sum(line == "COMMIT" for line in log) > messages]
    return [line for line in writer if not line.startswith("--")]  # what triggers and foreign keys do by themselves


def cut_the_power(image: bytes, statements: Sequence[str], cuts: int) -> tuple[int, int, int]:
    """Run the statements on the disk; return (power cuts, cuts that lost an acknowledged row, cuts that left a damaged file)."""
    chance = random.Random(SEED)
    disk = disk_with({FILE: image})
    acknowledged: frozenset[tuple[str, ...]] = frozenset()
    snapshots: list[tuple[frozenset[tuple[str, ...]], dict[str, bytes]]] = []
    share = min(1.0, 1.5 * cuts / _operations(image, statements))

    def maybe_cut(_operation: int) -> None:
        if len(snapshots) < cuts and chance.random() < share:
            snapshots.append((acknowledged, disk.after_power_cut(chance)))

    with mounted(disk) as vfs:
        connection = apsw.Connection(FILE, vfs=vfs)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # this disk has no shared memory
        disk.before_change = maybe_cut
        for statement in statements:
            list(connection.execute(statement))
            if statement == "COMMIT":
                acknowledged = frozenset(connection.execute(ROWS))
        connection.close()
    outcomes = [_after(files, rows) for rows, files in snapshots]
    return len(outcomes), sum(lost for lost, _ in outcomes), sum(damaged for _, damaged in outcomes)


def _operations(image: bytes, statements: Sequence[str]) -> int:
    """Return how often the statements change the disk."""
    disk = disk_with({FILE: image})
    with mounted(disk) as vfs:
        connection = apsw.Connection(FILE, vfs=vfs)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        for statement in statements:
            list(connection.execute(statement))
        connection.close()
    return disk.operations


def _after(files: dict[str, bytes], acknowledged: frozenset[tuple[str, ...]]) -> tuple[bool, bool]:
    """Start again with what the power cut left. Return whether an acknowledged row is missing, and whether the file is damaged.

    A later commit may also have reached the disk, so an inbox item may be further on than was acknowledged, never further back.
    """
    with mounted(disk_with(files)) as vfs:
        try:
            connection = apsw.Connection(FILE, vfs=vfs)
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            rows = frozenset(connection.execute(ROWS))
            sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()
        except apsw.Error:
            return True, True
    present = {(kind, name) for kind, name, _ in rows}
    done = {name for kind, name, state in rows if (kind, state) == ("inbox", "done")}
    kept = all((kind, name) in present and (state != "done" or name in done) for kind, name, state in acknowledged)
    return not kept, not sound


async def test_no_acknowledged_row_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each of many power cuts, every row whose COMMIT had returned is there and the file is sound."""
    cuts = size("power_cuts", small=150, proof=1000)
    config = sqlite_config(tmp_path)
    image = Path(tmp_path / FILE).read_bytes()
    statements = await statements_of_the_store(config, monkeypatch, messages=max(5, cuts // 25))
    done, lost, damaged = cut_the_power(image, statements, cuts)
    assert done >= cuts * 0.8
    assert (lost, damaged) == (0, 0)
    commits = statements.count("COMMIT")
    result = f"{done} power cuts over {commits} grouped commits: 0 acknowledged rows lost, 0 damaged files"
    record_proof("power_cut", seed=SEED, size=done, result=result)


async def test_with_less_syncing_the_loss_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same statements with `synchronous` lowered lose acknowledged rows: the proof above can fail."""
    config = sqlite_config(tmp_path)
    image = Path(tmp_path / FILE).read_bytes()
    statements = await statements_of_the_store(config, monkeypatch, messages=8)
    lowered = [re.sub(r"(?i)synchronous\s*=\s*FULL", "synchronous=NORMAL", line) for line in statements]
    assert lowered != statements
    done, lost, _ = cut_the_power(image, lowered, 60)
    assert lost > done / 2
    record_proof("power_cut_planted_fault", seed=SEED, size=done, result=f"synchronous=NORMAL: rows lost in {lost} of {done} power cuts")


async def test_the_statements_are_those_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is run again begins with the store's own settings, and it groups several units in a commit."""
    config = sqlite_config(tmp_path)
    statements = await statements_of_the_store(config, monkeypatch, messages=5)
    assert set(sqlite_pragmas(config)) <= set(statements[: statements.index("BEGIN IMMEDIATE")])
    assert statements.count("SAVEPOINT unit") > statements.count("COMMIT")


def test_the_disk_forgets() -> None:
    """What was written and not synced is gone after a power cut, or there in whole sectors."""
    disk = Disk()
    with mounted(disk) as vfs:
        connection = apsw.Connection(FILE, vfs=vfs)
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE t (x)")
        connection.close()
    assert disk.after_power_cut(random.Random(1))[FILE] != bytes(disk.files[FILE].seen)
