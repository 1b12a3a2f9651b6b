"""What an operator sees of the outbox and may do with it, as operations of the control socket."""

import json

import pytest

from bot.errors import CliError
from bot.outbox_operations import OutboxOperations
from storage.database import Database
from storage.records import OutboxRecord
from tests.storage.world import ready_message


async def failed(database: Database) -> OutboxRecord:
    """Bring a reply to `failed`."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.outbox.start(row.id))
    await database.write(lambda unit: unit.outbox.failed(row.id, "blocked"))
    return row


async def test_rows_are_listed_without_their_words(database: Database) -> None:
    """What is said stays in the database unless it is asked for; the rest is JSON that can cross the socket."""
    row = await failed(database)
    operations = OutboxOperations(database)
    listed = await operations.list({"state": "failed"})
    assert json.loads(json.dumps(listed)) == listed
    assert [(found["id"], found["error"]) for found in listed["rows"]] == [(row.id, "blocked")]
    assert row.text not in json.dumps(listed)
    assert (await operations.list({"text": True}))["rows"][0]["text"] == row.text
    assert (await operations.list({"state": "unknown"}))["rows"] == []


async def test_orphans_are_listed(database: Database) -> None:
    """A row that may have left a placeholder is found, whatever became of it."""
    row = await failed(database)
    operations = OutboxOperations(database)
    assert (await operations.list({"orphaned": True}))["rows"] == []
    await database.write(lambda unit: unit.outbox.add_orphan(row.id))
    assert [found["orphans"] for found in (await operations.list({"orphaned": True}))["rows"]] == [1]


async def test_retry_and_drop_stand_in_the_audit_log(database: Database) -> None:
    """What an operator does with a message is written down in the same transaction, without its words."""
    row = await failed(database)
    operations = OutboxOperations(database)
    assert (await operations.retry({"id": row.id}))["state"] == "ready"
    assert (await operations.drop({"id": row.id}))["state"] == "cancelled"
    lines = await database.read(lambda unit: unit.audit.list())
    assert [(line.actor, line.action, line.subject, line.detail) for line in reversed(lines)] == [
        ("operator", "outbox.retry", row.id, ""),
        ("operator", "outbox.drop", row.id, ""),
    ]


async def test_what_cannot_be_done_is_a_sentence(database: Database) -> None:
    """An unknown id, a message in another state and one of the bot while a person talks are refused, and nothing is written down."""
    row, operations = await ready_message(database), OutboxOperations(database)
    with pytest.raises(CliError, match=r"There is no message gone\."):
        await operations.retry({"id": "gone"})
    with pytest.raises(CliError, match="This message is ready"):
        await operations.retry({"id": row.id})
    await database.write(lambda unit: unit.outbox.start(row.id))
    with pytest.raises(CliError, match="This message is started"):
        await operations.drop({"id": row.id})
    await database.write(lambda unit: unit.outbox.failed(row.id, "blocked"))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "ada"))
    with pytest.raises(CliError, match="A person has this conversation"):
        await operations.retry({"id": row.id})
    assert len(await database.read(lambda unit: unit.audit.list())) == 1
