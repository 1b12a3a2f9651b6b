"""A chat that its platform gave a new id keeps its conversation; nothing that waits in it is lost."""

from typing import Any

import pytest

from storage.database import Database
from storage.errors import ClaimLost
from storage.ids import new_id
from storage.records import ConversationRecord, InboxState, OutboxState, Owner
from storage.unit_of_work import UnitOfWork
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item, nothing_to_claim, ready_message, say


async def move(database: Database, old: str = "old", new: str = "new") -> None:
    """Move a chat."""
    await database.write(lambda unit: unit.conversations.move(CHANNEL, ACCOUNT, old, new))


async def find(database: Database, chat: str) -> ConversationRecord | None:
    """Return the conversation of a chat."""
    return await database.read(lambda unit: unit.conversations.find(CHANNEL, ACCOUNT, chat))


async def existing(database: Database, chat: str) -> ConversationRecord:
    """Return the conversation of a chat that has one."""
    found = await find(database, chat)
    assert found is not None
    return found


async def due(database: Database) -> list[str]:
    """Return the ids of what may be sent now."""
    return [row.id for row in await database.read(lambda unit: unit.outbox.due())]


async def test_a_moved_chat_keeps_its_conversation(database: Database) -> None:
    """The conversation, its threads and a running claim go on under the new name; what only looks alike stays."""
    for chat in ("old", "old/17", "older", "old_/1"):
        await say(database, chat, chat=chat)
    before, held = await existing(database, "old"), await claim(database)
    await move(database)
    assert (await existing(database, "new")).id == before.id
    assert await find(database, "old") is None
    assert await find(database, "new/17") is not None
    assert await find(database, "older") is not None
    assert await find(database, "old_/1") is not None
    await answer(database, held)


async def test_moving_again_or_nothing_changes_nothing(database: Database) -> None:
    """A platform that repeats itself does no harm."""
    await move(database)
    assert await find(database, "new") is None
    await say(database, "1", chat="old")
    await move(database)
    after = await existing(database, "new")
    await move(database)
    await move(database, "new", "new")
    assert await existing(database, "new") == after
    assert (await claim(database)).items[0].event_id == "1"


async def test_what_waits_is_answered_in_the_new_chat_in_order(database: Database) -> None:
    """Items of both chats become one lane, oldest first; whoever was at work on either has to claim again."""
    await say(database, "1", chat="old")
    old = await claim(database)
    await say(database, "2", chat="new")
    new = await claim(database)
    await say(database, "3", chat="old")
    await move(database)
    for lost in (old, new):
        with pytest.raises(ClaimLost):
            await answer(database, lost)
    held = await claim(database)
    assert held.conversation.chat == "new"
    assert [found.event_id for found in held.items] == ["1", "2", "3"]
    await answer(database, held)
    assert await nothing_to_claim(database)
    assert await database.read(lambda unit: unit.inbox.pending()) == 0


async def test_what_is_undelivered_goes_out_in_the_new_chat_in_order(database: Database) -> None:
    """Messages of both chats are one lane with the epoch of the new chat; what was sent stays where it was."""
    sent, first = await ready_message(database, "0", chat="old"), await ready_message(database, "1", chat="old")
    await database.write(lambda unit: unit.outbox.start(sent.id))
    await database.write(lambda unit: unit.outbox.sent(sent.id))
    second = await ready_message(database, "2", chat="new")
    third = await ready_message(database, "3", chat="old")
    for owner in ("take", "release"):  # so that the epochs of the two chats differ
        await database.write(lambda unit, owner=owner: getattr(unit.conversations, owner)(second.conversation_id, "agent"))
    await move(database)
    assert await due(database) == [first.id]
    for expected in (first, third):
        assert await due(database) == [expected.id]
        started = await database.write(lambda unit, expected=expected: unit.outbox.start(expected.id))
        assert started is not None
        assert started.conversation_id == second.conversation_id
        await database.write(lambda unit, expected=expected: unit.outbox.sent(expected.id))
    assert (await database.read(lambda unit: unit.outbox.get(sent.id))).conversation_id == sent.conversation_id
    assert [turn.user_text for turn in await database.read(lambda unit: unit.turns.list(sent.conversation_id))] == ["3", "1", "0"]


async def test_a_reserved_row_of_the_old_chat_is_an_orphan(database: Database) -> None:
    """Its turn is made again in the new chat; the placeholder stays behind."""
    await say(database, "1", chat="old")
    held, turn_id = await claim(database), new_id()
    reserved = await database.write(lambda unit: unit.outbox.reserve(held, turn_id, ""))
    await say(database, "2", chat="new")
    await move(database)
    row = await database.read(lambda unit: unit.outbox.get(reserved.id))
    assert (row.state, row.orphans) == (OutboxState.CANCELLED, 1)
    assert len((await claim(database)).items) == 2


async def test_a_person_keeps_the_chat_that_moves(database: Database) -> None:
    """Who had the old conversation has the new one; the bot says nothing there, the person's words go out."""
    ready = await ready_message(database, "1", chat="old")
    of_bot = await ready_message(database, "2", chat="new")
    await database.write(lambda unit: unit.outbox.start(ready.id))  # in flight, so that the takeover leaves it
    await database.write(lambda unit: unit.conversations.take(ready.conversation_id, "agent"))
    said = await database.write(lambda unit: unit.outbox.enqueue(ready.conversation_id, "hello", owner_epoch=1))
    await database.write(lambda unit: unit.outbox.unknown(ready.id, "no answer", retry_at=0))
    await move(database)
    assert (await existing(database, "new")).owner is Owner.HUMAN
    assert (await existing(database, "old")).owner is Owner.BOT
    assert await database.write(lambda unit: unit.outbox.resume(ready.id)) is None
    assert await due(database) == [said.id]
    assert await database.write(lambda unit: unit.outbox.start(said.id)) is not None
    assert (await database.read(lambda unit: unit.outbox.get(of_bot.id))).state is OutboxState.CANCELLED
    given = await database.write(lambda unit: unit.conversations.release(of_bot.conversation_id, "agent"))
    await move(database)
    assert (await existing(database, "new")).owner_epoch == given.owner_epoch


async def test_the_bot_does_not_speak_where_a_person_is(database: Database) -> None:
    """Messages of the bot that come into a person's conversation are cancelled when their time comes."""
    row = await ready_message(database, "1", chat="old")
    await say(database, "2", chat="new")
    new = await existing(database, "new")
    await database.write(lambda unit: unit.conversations.take(new.id, "agent"))
    await move(database)
    assert await database.write(lambda unit: unit.outbox.start(row.id)) is None
    assert await due(database) == []


async def test_who_waits_for_a_person_waits_on(database: Database) -> None:
    """The wish for a person moves with the chat, with its time."""
    await say(database, "1", chat="old")
    await say(database, "2", chat="new")
    old = await existing(database, "old")
    await database.write(lambda unit: unit.conversations.set_waiting(old.id))
    since = (await existing(database, "old")).waiting_since
    await move(database)
    assert [(found.chat, found.waiting_since) for found in await database.read(lambda unit: unit.conversations.list(waiting=True))] == [
        ("new", since)
    ]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("told_in", ["old", "new"])
async def test_an_event_that_tells_of_a_move_is_obeyed_first(database: Database, known: bool, told_in: str) -> None:
    """Events of one batch land in the new chat, whichever chat they name; the old one is not opened again."""
    await say(database, "0", chat="old")
    if known:
        await say(database, "1", chat="new")
    told: dict[str, Any] = {"moved_from": "old", "moved_to": "new", "is_private": False}
    assert await accept(database, item("2", "old", is_private=False), item("3", told_in, **told), item("4", "new", is_private=False)) == 3
    assert await accept(database, item("3", told_in, **told)) == 0
    held = await claim(database)
    assert held.conversation.chat == "new"
    assert [found.event_id for found in held.items] == (["0", "1"] if known else ["0"]) + ["2", "3", "4"]
    assert await nothing_to_claim(database)
    if not known:
        assert await find(database, "old") is None


async def test_a_move_that_fails_moves_nothing(database: Database) -> None:
    """A unit that breaks after the move leaves both chats as they were."""
    await say(database, "1", chat="old")
    await say(database, "2", chat="new")
    before = (await existing(database, "old"), await existing(database, "new"))

    async def work(unit: UnitOfWork) -> None:
        await unit.conversations.move(CHANNEL, ACCOUNT, "old", "new")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await database.write(work)
    assert (await existing(database, "old"), await existing(database, "new")) == before
    assert len(await database.read(lambda unit: unit.inbox.list(InboxState.NEW))) == 2
