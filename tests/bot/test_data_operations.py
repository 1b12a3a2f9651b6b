"""Operations on stored data: their arguments come from a socket and are not believed."""

import json

import pytest

from bot.data_operations import DataOperations, data_operations
from bot.errors import CliError
from storage.clock import ManualClock
from storage.config import StorageConfig
from storage.testing import temporary_database
from tests.storage.world import ready_message

ANN = {"channel": "test", "account": "shop", "external_id": "ann"}


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("conversations.list", {"limit": "5"}),
        ("conversations.list", {"limit": 0}),
        ("conversations.list", {"limit": 10_000}),
        ("conversations.list", {"limit": True}),
        ("conversations.list", {"before": 3}),
        ("conversations.show", {}),
        ("conversations.show", {"id": ["x"]}),
        ("turns.document", {"id": None}),
        ("users.export", {"channel": "test"}),
        ("users.erase", {**ANN, "external_id": 7}),
        ("db.backup", {"path": "relative.db"}),
        ("db.backup", {}),
        ("conversations.take", {}),
        ("conversations.say", {"id": "x", "text": 7}),
        ("conversations.say", {"id": "x", "text": " "}),
        ("conversations.release", {"id": None}),
        ("outbox.list", {"limit": 0}),
        ("outbox.list", {"state": "lost"}),
        ("outbox.retry", {}),
        ("outbox.drop", {"id": ["x"]}),
    ],
)
async def test_wrong_arguments_are_refused(operation: str, arguments: dict[str, object]) -> None:
    """An argument of the wrong type or size is a usage error in a sentence, and nothing else happens."""
    async with temporary_database() as database:
        with pytest.raises(CliError) as caught:
            await data_operations(database, StorageConfig("sqlite:///unused.db"))[operation](arguments)
    assert caught.value.code == 2


async def test_results_are_json() -> None:
    """What an operation returns can cross the control socket."""
    async with temporary_database() as database:
        operations = DataOperations(database, StorageConfig("sqlite:///unused.db"))
        await database.write(lambda unit: unit.conversations.ensure("test", "shop", "ann", True))
        listed = await operations.list_conversations({})
        shown = await operations.show_conversation({"id": listed[0]["id"]})
        status = await operations.status({})
    assert json.loads(json.dumps([listed, shown, status])) == [listed, shown, status]
    assert [status[name] for name in ("pending", "oldest_pending_ms", "quarantined", "orphans")] == [0, 0, 0, 0]


async def test_turns_and_words_of_people_are_shown_together(clock: ManualClock) -> None:
    """`limit` counts both: the newest of them come, in the order in which they were said."""
    async with temporary_database(clock) as database:
        conversation = (await ready_message(database, "1")).conversation_id
        taken = await database.write(lambda unit: unit.conversations.take(conversation, "ada"))
        for text in ("first", "second"):
            clock.advance(1000)
            await database.write(
                lambda unit, text=text: unit.outbox.enqueue(conversation, text, owner_epoch=taken.conversation.owner_epoch)
            )
        await database.write(lambda unit: unit.conversations.release(conversation, "ada"))
        clock.advance(1000)
        await ready_message(database, "2")
        operations = DataOperations(database, StorageConfig("sqlite:///unused.db"))
        shown = [await operations.show_conversation({"id": conversation, "limit": limit}) for limit in (1, 2, 9)]
    assert [[turn["user_text"] for turn in one["turns"]] for one in shown] == [["2"], ["2"], ["1", "2"]]
    assert [[said["text"] for said in one["said_by_people"]] for one in shown] == [[], ["second"], ["first", "second"]]


async def test_an_erasure_stands_in_the_audit_log() -> None:
    """Who was erased is written down by internal id, in the same transaction."""
    async with temporary_database() as database:
        operations = DataOperations(database, StorageConfig("sqlite:///unused.db"))
        user = await database.write(lambda unit: unit.users.ensure("test", "shop", "ann", "Ann"))
        counts = await operations.erase_user(ANN)
        (entry, *_) = await database.read(lambda unit: unit.audit.list())
    assert counts["users"] == 1
    assert (entry.action, entry.subject) == ("user.erase", user.id)
