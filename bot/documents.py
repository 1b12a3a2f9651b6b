"""The files that go out with replies. They are made when they are delivered, so that none of them is stored twice."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from bot.channels.base import Document
from storage.database import Database
from storage.errors import NotFound
from storage.records import ConversationRecord, OutboxRecord
from storage.unit_of_work import UnitOfWork

EXPORT = "export"

MakeDocument = Callable[[str, OutboxRecord, ConversationRecord], Awaitable[Document]]


def document_maker(database: Database) -> MakeDocument:
    """Return what makes the file of a reply. It raises NotFound when what the file was to hold is gone."""

    async def make(kind: str, row: OutboxRecord, conversation: ConversationRecord) -> Document:
        if kind != EXPORT or row.turn_id is None:
            raise NotFound(f"nothing makes a file of kind {kind!r}")
        data = await database.read(lambda unit: _export(unit, row.turn_id or "", conversation))
        return Document("kefu-export.json", json.dumps(data, ensure_ascii=False, indent=1).encode())

    return make


async def _export(unit: UnitOfWork, turn_id: str, conversation: ConversationRecord) -> dict[str, Any]:
    """Return everything about the user of the turn; in a group only what they wrote there, because others read the file."""
    turn = await unit.turns.get(turn_id)
    return await unit.users.export(turn.user_id, None if conversation.is_private else conversation.id)
