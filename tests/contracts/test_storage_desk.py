"""What people say through the desk, as operators read it."""

from storage.database import Database
from storage.records import OutboxRecord, OutboxState
from tests.storage.world import ready_message


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
