"""The files that go out with replies."""

import json
from dataclasses import replace

import pytest

from bot.documents import EXPORT, document_maker
from storage.database import Database
from storage.errors import NotFound
from storage.records import ConversationRecord, OutboxRecord
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item


async def asked(database: Database, words: str, chat: str, external_id: str = "ann") -> tuple[OutboxRecord, ConversationRecord]:
    """Let somebody say something in a chat, private if it is named like them; return the reply and where it goes."""
    await accept(database, item(words, chat, is_private=chat == external_id))
    claimed = await claim(database)
    _, row = await answer(database, claimed, external_id=external_id)
    assert row is not None
    await database.write(lambda unit: unit.inbox.release(claimed))
    return row, claimed.conversation


async def test_an_export_is_a_file_of_everything(database: Database) -> None:
    """In a private chat the file holds what the person wrote anywhere, as JSON that people can read, and nobody else's words."""
    await asked(database, "in-the-group", "group")
    await asked(database, "of-bob", "bob", "bob")
    document = await document_maker(database)(EXPORT, *await asked(database, "私の言葉", "ann"))
    assert document.name == "kefu-export.json"
    assert "私の言葉" in document.content.decode()
    assert [turn["user_text"] for turn in json.loads(document.content)["turns"]] == ["in-the-group", "私の言葉"]


async def test_an_export_in_a_group_is_of_that_group(database: Database) -> None:
    """Others read the file: it holds what the asker wrote there."""
    await asked(database, "private", "ann")
    await asked(database, "of-bob", "group", "bob")
    document = await document_maker(database)(EXPORT, *await asked(database, "in-the-group", "group"))
    assert [turn["user_text"] for turn in json.loads(document.content)["turns"]] == ["in-the-group"]


async def test_nothing_is_made_of_what_is_gone(database: Database) -> None:
    """A person who was erased meanwhile, words of the desk and a kind that nobody makes: each is NotFound, which no retry heals."""
    make, (row, conversation) = document_maker(database), await asked(database, "hello", "ann")
    for kind, odd in (("picture", row), (EXPORT, replace(row, turn_id=None))):
        with pytest.raises(NotFound, match="nothing makes a file"):
            await make(kind, odd, conversation)
    user = await database.read(lambda unit: unit.users.find(CHANNEL, ACCOUNT, "ann"))
    assert user is not None
    await database.write(lambda unit: unit.users.erase(user.id))
    with pytest.raises(NotFound, match="no such turn"):
        await make(EXPORT, row, conversation)
