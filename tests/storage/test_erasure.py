"""Erasure reaches the bytes: what a user said is nowhere in the files any more."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.ids import new_id
from storage.models import metadata
from storage.records import NewInboxItem, NewTurn, TurnStatus
from storage.testing import sqlite_config
from storage.unit_of_work import UnitOfWork

CANARY = "canary-4f9c2e"
NEIGHBOUR = "neighbour-81d0aa"


async def live(database: Database, person: str, *, chat: str, private: bool = True) -> str:
    """Let a person leave traces in every table; return the user's id."""
    raw = f"{person} raw event".encode()
    item = NewInboxItem(event_id=f"{person}-{chat}", chat=chat, raw=raw, is_private=private)
    await database.write(lambda unit: unit.inbox.accept("test", "me", [item]))

    async def leave_traces(unit: UnitOfWork) -> str:
        claim = await unit.inbox.claim("worker")
        assert claim is not None
        user = await unit.users.ensure("test", "me", person, display_name=f"{person} display", language="en")
        await unit.users.set_profile(user.id, name=f"{person} name", tone=f"{person} tone")
        await unit.users.add_note(user.id, f"{person} note")
        ids = tuple(item.id for item in claim.items)
        document, answer = f"{person} document".encode() * 200, f"{person} answer " * 400
        turn = NewTurn(
            new_id(),
            user.id,
            "chat",
            TurnStatus.ANSWERED,
            f"{person} question",
            answer,
            ids,
            document=document,
            summary=f"{person} summary",
        )
        await unit.turns.commit(claim, turn, reply=answer, owner_epoch=claim.conversation.owner_epoch)
        await unit.feedback.rate(turn.id, user.id, -1, "wrong", f"{person} correction")
        await unit.inbox.release(claim)
        return user.id

    return await database.write(leave_traces)


def bytes_of(folder: Path) -> bytes:
    """Return the raw content of the database and everything beside it: write-ahead log, its index, lock."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


async def test_no_byte_of_an_erased_user_is_left_in_the_files(tmp_path: Path) -> None:
    """After erase and scrub the canary is in no file; a neighbour's data are untouched."""
    database = await open_database(sqlite_config(tmp_path), owner="test")
    try:
        user = await live(database, CANARY, chat="private")
        await live(database, CANARY, chat="group", private=False)
        await live(database, NEIGHBOUR, chat="group", private=False)
        assert CANARY.encode() in await asyncio.to_thread(bytes_of, tmp_path)
        assert await database.write(lambda unit: unit.users.erase(user))
        await database.scrub()
        left = await asyncio.to_thread(bytes_of, tmp_path)
        assert CANARY.encode() not in left
        assert NEIGHBOUR.encode() in left
    finally:
        await database.close()
    assert CANARY.encode() not in bytes_of(tmp_path)


async def test_without_the_scrub_the_bytes_stay(tmp_path: Path) -> None:
    """Deleting rows alone leaves the canary in the write-ahead log: the check above can fail."""
    database = await open_database(sqlite_config(tmp_path), owner="test")
    try:
        user = await live(database, CANARY, chat="private")
        await database.write(lambda unit: unit.users.erase(user))
        assert CANARY.encode() in await asyncio.to_thread(bytes_of, tmp_path)
    finally:
        await database.close()


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
async def test_no_row_of_an_erased_user_is_left_on_postgresql(storage_config: StorageConfig) -> None:
    """After erase and VACUUM no row of any table holds the canary."""
    database = await open_database(storage_config, owner="test")
    try:
        user = await live(database, CANARY, chat="private")
        await live(database, NEIGHBOUR, chat="other")
        await database.write(lambda unit: unit.users.erase(user))
        await database.scrub()
    finally:
        await database.close()
    engine = create_engine(storage_config.url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    with engine.connect() as connection:
        rows = [str(row) for table in metadata.sorted_tables for row in connection.execute(table.select())]
    engine.dispose()
    assert not [row for row in rows if CANARY in row]
    assert [row for row in rows if NEIGHBOUR in row]


async def test_export_holds_everything_that_was_said(storage_config: StorageConfig) -> None:
    """The export of a user names what they said, what was answered, what is remembered, and nothing of a neighbour."""
    database = await open_database(storage_config, owner="test")
    try:
        user = await live(database, CANARY, chat="private")
        await live(database, NEIGHBOUR, chat="other")
        exported = str(await database.read(lambda unit: unit.users.export(user)))
    finally:
        await database.close()
    for trace in ("question", "answer", "name", "tone", "note", "display", "correction"):
        assert f"{CANARY} {trace}" in exported
    assert NEIGHBOUR not in exported
