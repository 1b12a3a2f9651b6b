"""What people say through the desk, as operators read it."""

from storage.clock import ManualClock
from storage.database import Database
from storage.records import OutboxRecord, OutboxState
from tests.storage.world import answer, claim, ready_message, say


async def said(database: Database, text: str, chat: str) -> OutboxRecord:
    """Let a person take the conversation of a chat, in which the bot has answered, and say something."""
    row = await ready_message(database, f"event-{chat}", chat)
    taken = await database.write(lambda unit: unit.conversations.take(row.conversation_id, "ada"))
    epoch = taken.conversation.owner_epoch
    return await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, text, owner_epoch=epoch))


async def test_the_words_of_people_are_found(database: Database) -> None:
    """Of one conversation, newest first, however far they came; neither answers of the bot nor what is said elsewhere."""
    first, elsewhere = await said(database, "one", "here"), await said(database, "other", "there")
    conversation = first.conversation_id
    await database.write(lambda unit: unit.outbox.start(first.id))
    await database.write(lambda unit: unit.outbox.sent(first.id))
    second = await database.write(lambda unit: unit.outbox.enqueue(conversation, "two", owner_epoch=first.owner_epoch))
    found = await database.read(lambda unit: unit.outbox.of_desk(conversation))
    assert [(row.id, row.text, row.state) for row in found] == [
        (second.id, "two", OutboxState.READY),
        (first.id, "one", OutboxState.SENT),
    ]
    assert await database.read(lambda unit: unit.outbox.of_desk(conversation, 1)) == (second,)
    assert await database.read(lambda unit: unit.outbox.of_desk(elsewhere.conversation_id)) == (elsewhere,)


async def test_who_writes_to_a_person_waits_until_that_person_speaks(database: Database, clock: ManualClock) -> None:
    """After a takeover a message without an answer is listed as waiting since the first of them; words of the person end it."""
    words = await said(database, "I am Ada.", "here")
    conversation = words.conversation_id
    assert await waiting(database) == []
    first = clock.now
    for event_id in ("2", "3"):
        await say(database, event_id, chat="here")
        held = await claim(database)
        await answer(database, held, reply=None)
        await database.write(lambda unit, held=held: unit.inbox.release(held))
        clock.advance(1000)
    assert await waiting(database) == [(conversation, first)]
    await database.write(lambda unit: unit.outbox.enqueue(conversation, "Yes?", owner_epoch=words.owner_epoch))
    assert await waiting(database) == []


async def waiting(database: Database) -> list[tuple[str, int | None]]:
    """Return in which conversations somebody waits, and since when."""
    return [(found.id, found.waiting_since) for found in await database.read(lambda unit: unit.conversations.list(waiting=True))]
