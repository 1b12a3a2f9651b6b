"""What the operator may do with the stored data, as operations of the control socket.

The same functions serve a command that opened the database itself and the `kefu run` that owns it: JSON in, JSON out.
Arguments come from a socket, so their types are checked here.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bot.arguments import Arguments, number, optional, text
from bot.desk_operations import desk_of_a_command, desk_operations
from bot.errors import CliError, ExitCode
from bot.handoff_desk import Desk
from bot.outbox_operations import outbox_operations
from storage import schema
from storage.backup import backup
from storage.config import StorageConfig
from storage.database import Database
from storage.errors import NotFound
from storage.records import ConversationRecord, OutboxRecord, TurnRecord, UserRecord
from storage.unit_of_work import UnitOfWork


def data_operations(
    database: Database, config: StorageConfig, desk: Desk | None = None
) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
    """Return the operations by name, bound to `database`, which was opened with `config`. Without a `desk`, no answer is being made."""
    operations = DataOperations(database, config)
    return {
        **desk_operations(desk or desk_of_a_command(database)),
        **outbox_operations(database),
        "conversations.list": operations.list_conversations,
        "conversations.show": operations.show_conversation,
        "turns.document": operations.turn_document,
        "users.export": operations.export_user,
        "users.erase": operations.erase_user,
        "db.backup": operations.back_up,
        "status": operations.status,
    }


class DataOperations:
    """Each method takes the arguments of one operation and returns a JSON value. All raise StorageError and CliError."""

    def __init__(self, database: Database, config: StorageConfig) -> None:
        self._database = database
        self._config = config

    async def list_conversations(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Return the newest conversations: `limit`, `before` (an id), `waiting`."""
        limit, before, waiting = number(arguments, "limit", 50), optional(arguments, "before"), bool(arguments.get("waiting"))
        found = await self._database.read(lambda unit: unit.conversations.list(waiting=waiting, limit=limit, before=before))
        return [_plain(conversation) for conversation in found]

    async def show_conversation(self, arguments: Arguments) -> dict[str, Any]:
        """Return conversation `id`, and the newest `limit` of its turns and of the words that people said in it; both oldest first."""
        conversation_id, limit = text(arguments, "id"), number(arguments, "limit", 50)

        async def look(unit: UnitOfWork) -> dict[str, Any]:
            with _named("conversation", conversation_id):
                conversation = await unit.conversations.get(conversation_id)
            turns, words = await unit.turns.list(conversation_id, limit=limit), await unit.outbox.of_desk(conversation_id, limit)
            newest = sorted([*turns, *words], key=_made)[-limit:]
            return {
                "conversation": _plain(conversation),
                "turns": [_plain(one) for one in newest if isinstance(one, TurnRecord)],
                "said_by_people": [_said(one) for one in newest if isinstance(one, OutboxRecord)],
            }

        return await self._database.read(look)

    async def turn_document(self, arguments: Arguments) -> dict[str, Any]:
        """Return turn `id`, its document as base64 (None when it is gone) and the folder of its adapter (None = no release)."""
        turn_id = text(arguments, "id")

        async def look(unit: UnitOfWork) -> dict[str, Any]:
            with _named("turn", turn_id):
                turn = await unit.turns.get(turn_id)
            document = await unit.turns.document(turn_id)
            releases = await unit.adapters.find(turn.adapter) if turn.adapter else ()
            adapter = next((release.path for release in releases if release.id == turn.adapter), None)
            encoded = base64.b64encode(document).decode() if document else None
            return {"turn": _plain(turn), "document": encoded, "adapter_path": adapter}

        return await self._database.read(look)

    async def export_user(self, arguments: Arguments) -> dict[str, Any]:
        """Return everything about one person."""

        async def look(unit: UnitOfWork) -> dict[str, Any]:
            return await unit.users.export((await _user(unit, arguments)).id)

        return await self._database.read(look)

    async def erase_user(self, arguments: Arguments) -> dict[str, int]:
        """Delete everything about one person, bytes in files included; return how many rows went, by table."""

        async def delete(unit: UnitOfWork) -> dict[str, int]:
            user = await _user(unit, arguments)
            counts = await unit.users.erase(user.id)
            await unit.audit.append("operator", "user.erase", user.id, "")
            return counts

        try:
            return await self._database.write(delete)
        finally:  # also when nobody is known any more: an earlier erasure may have met a reader that kept the bytes
            await self._database.scrub()

    async def back_up(self, arguments: Arguments) -> None:
        """Write a checked copy of the database to the file `path`, absolute."""
        target = Path(text(arguments, "path"))
        if not target.is_absolute():
            raise CliError("path must be absolute.", code=ExitCode.USAGE)
        await asyncio.to_thread(backup, self._config, target)

    async def status(self, _arguments: Arguments) -> dict[str, Any]:
        """Return time and schema of the database, and what waits or went wrong in inbox and outbox."""

        async def look(unit: UnitOfWork) -> dict[str, Any]:
            return {
                "now": await unit.now(),
                "schema": schema.head(),  # it was compared when the database was opened
                "pending": await unit.inbox.pending(),
                "oldest_pending_ms": await unit.inbox.oldest_pending_age_ms(),
                "quarantined": await unit.inbox.quarantined_count(),
                "outbox": await unit.outbox.counts(),
                "orphans": await unit.outbox.orphans(),
            }

        return await self._database.read(look)


async def _user(unit: UnitOfWork, arguments: Arguments) -> UserRecord:
    channel, account, external_id = (text(arguments, name) for name in ("channel", "account", "external_id"))
    user = await unit.users.find(channel, account, external_id)
    if user is None:
        raise CliError(
            f"Nobody is known as {external_id!r} on {channel} ({account}).", hint="`kefu conversations list` shows who is known."
        )
    return user


@contextmanager
def _named(what: str, name: str) -> Iterator[None]:
    """Let the operator hear which one is missing."""
    try:
        yield
    except NotFound:
        raise CliError(f"There is no {what} {name}.", hint="`kefu conversations list` and `show` give the ids.") from None


def _plain(record: ConversationRecord | TurnRecord) -> dict[str, Any]:
    return asdict(record)


def _said(row: OutboxRecord) -> dict[str, Any]:
    return {"id": row.id, "created_at": row.created_at, "state": row.state.value, "error": row.error, "text": row.text}


def _made(one: TurnRecord | OutboxRecord) -> int:
    return one.created_at
