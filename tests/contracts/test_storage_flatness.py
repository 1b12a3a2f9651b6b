"""What happens with every message costs the same in a full database as in an empty one: no statement reads a table through."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.backend import Work
from storage.database import Database
from storage.ids import new_id
from storage.postgres import PostgresBackend
from storage.records import InboxState
from storage.sqlite import SqliteBackend
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item, say, user

Statement = tuple[str, Any]

# A partial index holds only what waits, so reading all of one is fine.
_PARTIAL = (
    "ix_inbox_(waiting|quarantined)|ix_outbox_(due|lane|unsent|orphaned)|ix_channel_offsets_leased|"
    "ix_conversations_(pending|pending_channel|leased|waiting)"
)
_READS_ALL = {
    "sqlite": re.compile(rf"^SCAN (?!\d+ CONSTANT ROW|CONSTANT ROW|\w+ USING (COVERING )?INDEX ({_PARTIAL})\b)"),
    "postgresql": re.compile(r"Seq Scan"),
}
_EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}


def an_engine(database: Database) -> AsyncEngine:
    """Return an engine that can read this database."""
    backend = database._backend
    if isinstance(backend, SqliteBackend):
        return backend._reading
    assert isinstance(backend, PostgresBackend)
    return backend._engine


@contextmanager
def noted_statements() -> Iterator[list[Statement]]:
    """Note the statements that run, with their parameters, on whatever connection."""
    seen: list[Statement] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def statements(database: Database) -> Iterator[list[Statement]]:
    """The statements that ran, with their parameters."""
    with noted_statements() as seen:
        yield seen


async def plan(database: Database, statement: Statement) -> list[str]:
    """Return how the database would find the rows, even if it thinks that its tables are small."""
    async with an_engine(database).connect() as connection:
        if database.dialect == "postgresql":
            await connection.exec_driver_sql("SET enable_seqscan = off")
        rows = (await connection.exec_driver_sql(_EXPLAIN[database.dialect] + statement[0], statement[1])).all()
    return [row[-1] for row in rows]


async def scans(database: Database, statements: list[Statement]) -> list[tuple[str, list[str]]]:
    """Return the statements that read a whole table, with their plans."""
    found = []
    for statement in list(statements):
        steps = await plan(database, statement)
        if any(_READS_ALL[database.dialect].search(step) for step in steps):
            found.append((statement[0], steps))
    return found


async def every_message(database: Database) -> None:
    """Do everything that happens with a message on its way."""
    await accept(database, item("1", "a"), item("2", "a"), item("3", "b"), item("1", "a"), offset=4)
    for channel, account in ((None, None), (CHANNEL, ACCOUNT)):
        held = await claim(database, channel=channel, account=account, quiet_ms=0)
        await database.write(lambda unit, held=held: unit.inbox.renew(held))
        await database.write(lambda unit, held=held: unit.outbox.reserve(held, new_id(), ""))
        _, row = await answer(database, held, document=b"x")
        assert row is not None
        await database.write(lambda unit, held=held: unit.inbox.release(held))
        await database.write(lambda unit, row=row: unit.outbox.start(row.id))
        await database.write(lambda unit, row=row: unit.outbox.add_chunk(row.id, 0, "m"))
        await database.write(lambda unit, row=row: unit.outbox.sent(row.id))
        await database.read(lambda unit, held=held: unit.turns.window(held.conversation.id))
        await database.read(lambda unit, held=held: unit.conversations.get(held.conversation.id))
    user_id = await database.write(user)
    await database.read(lambda unit: unit.users.profile(user_id))


async def test_a_message_reads_no_table_through(database: Database, statements: list[Statement]) -> None:
    """From accept to sent, every statement finds its rows by an index."""
    await every_message(database)
    assert await scans(database, statements) == []


async def test_the_sweeps_read_no_table_through(database: Database, statements: list[Statement]) -> None:
    """Due messages, health figures and clearing up look only at what is waiting."""
    await every_message(database)
    await say(database, "poison")
    held = await claim(database)
    await database.write(lambda unit: unit.inbox.quarantine(held.items[0].id, "x"))
    statements.clear()
    sweeps: tuple[Work[object], ...] = (
        lambda unit: unit.outbox.due(),
        lambda unit: unit.outbox.due(CHANNEL, account=ACCOUNT),
        lambda unit: unit.outbox.head(held.conversation.id),
        lambda unit: unit.outbox.counts(),
        lambda unit: unit.outbox.orphans(),
        lambda unit: unit.outbox.list(orphaned=True),
        lambda unit: unit.inbox.quarantined_count(),
        lambda unit: unit.turns.usage(held.conversation.id, since=0),
        lambda unit: unit.inbox.pending(),
        lambda unit: unit.inbox.oldest_pending_age_ms(),
        lambda unit: unit.inbox.list(InboxState.QUARANTINED),
        lambda unit: unit.conversations.list(waiting=True),
    )
    for sweep in sweeps:
        await database.read(sweep)
    await database.write(lambda unit: unit.turns.expire_documents())
    await database.write(lambda unit: unit.inbox.free_all_leases())
    assert await scans(database, statements) == []


async def test_the_check_can_fail(database: Database) -> None:
    """A statement without an index is reported."""
    assert await scans(database, [("SELECT id FROM turns WHERE reply_text = 'x'", ())])
