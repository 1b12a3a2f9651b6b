"""A batch of events costs a few statements, however many chats it is from, and is stored as if the events had come one by one."""

import asyncio

from storage.clock import ManualClock
from storage.database import Database
from storage.records import InboxState
from tests.contracts.test_storage_flatness import noted_statements
from tests.storage.world import accept, answer, claim, item, nothing_to_claim, say


async def test_a_batch_costs_a_few_statements(database: Database) -> None:
    """A hundred events from a hundred chats are two statements and the offset."""
    with noted_statements() as seen:
        assert await accept(database, *(item(f"e{number}", f"chat{number}") for number in range(100)), offset=100) == 100
    assert len([statement for statement, _ in seen if statement.startswith(("SELECT", "INSERT", "UPDATE"))]) == 3


async def test_a_batch_is_numbered_in_the_order_of_arrival(database: Database) -> None:
    """Events of several chats keep their order, in the store and inside each chat."""
    ids = [f"e{number:03}" for number in range(120)]
    await accept(database, *(item(event_id, f"chat{number % 7}") for number, event_id in enumerate(ids)))
    stored = await database.read(lambda unit: unit.inbox.list(InboxState.NEW, 200))
    assert [found.event_id for found in reversed(stored)] == ids


async def test_a_repeated_event_in_a_batch_leaves_nothing_to_claim(database: Database, clock: ManualClock) -> None:
    """A chat of which nothing new came stays as it was; the others of the batch wait."""
    await say(database, "1", chat="a")
    await answer(database, await claim(database))
    clock.advance(30_000)
    assert await accept(database, item("1", "a"), item("2", "b"), item("2", "b"), item("1", "a")) == 1
    held = await claim(database)
    assert (held.conversation.chat, [found.event_id for found in held.items]) == ("b", ["2"])
    assert await nothing_to_claim(database)
    assert await database.read(lambda unit: unit.inbox.pending()) == 1


async def test_batches_of_the_same_chats_do_not_stand_in_each_others_way(database: Database) -> None:
    """Processes that accept at once, each in its own order, all succeed."""
    chats = [f"chat{number}" for number in range(20)]
    batches = [[item(f"{batch}-{chat}", chat) for chat in (chats if batch % 2 else reversed(chats))] for batch in range(6)]
    assert await asyncio.gather(*(accept(database, *batch) for batch in batches)) == [20] * 6
    assert await accept(database) == 0
