"""All data of one user, to give it out or to delete it.

A private chat belongs to its user as a whole. Of a group, only the turns that the user began belong to them, with the raw events,
prompts and replies of those turns.
"""

import base64
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, delete, or_, select, update

from storage.models import (
    conversations,
    feedback,
    identities,
    inbox,
    outbox,
    outbox_chunks,
    profile_notes,
    profiles,
    turn_documents,
    turns,
    users,
)
from storage.repositories.base import Repository


class UserData(Repository):
    """Everything that is stored about one user."""

    async def export(self, user_id: str) -> dict[str, Any]:
        """Return a value of dict, list, str, int, bool and None, one list of rows for each table; bytes as base64."""
        tables = {table.name: await self._rows(table, condition) for table, condition in _belongings(user_id)}
        return {"user_id": user_id, **tables}

    async def erase(self, user_id: str) -> dict[str, int]:
        """Delete the rows; return how many went, by table."""
        groups = select(turns.c.conversation_id).where(turns.c.user_id == user_id)
        # A rolling summary of a group may repeat what the user said.
        await self._run(
            update(conversations).where(conversations.c.id.in_(groups), conversations.c.is_private.is_(False)).values(summary="")
        )
        return {table.name: await self._changed(delete(table).where(condition)) for table, condition in _belongings(user_id)}

    async def _rows(self, table: Table, condition: ColumnElement[bool]) -> list[dict[str, Any]]:
        rows = await self._all(select(table).where(condition).order_by(*table.primary_key.columns))
        return [dict(zip(table.columns.keys(), map(_plain, row), strict=True)) for row in rows]


def _belongings(user_id: str) -> tuple[tuple[Table, ColumnElement[bool]], ...]:
    """Return each table with the condition of the user's rows: what refers to others first, so that it can be deleted in this order."""
    own_chats, own_turns = _own_chats(user_id), select(turns.c.id).where(turns.c.user_id == user_id)
    own_replies = or_(outbox.c.conversation_id.in_(own_chats), outbox.c.turn_id.in_(own_turns))
    of_own_turns = select(turns.c.id).where(or_(turns.c.user_id == user_id, turns.c.conversation_id.in_(own_chats)))
    return (
        (feedback, or_(feedback.c.user_id == user_id, feedback.c.turn_id.in_(of_own_turns))),
        (outbox_chunks, outbox_chunks.c.outbox_id.in_(select(outbox.c.id).where(own_replies))),
        (outbox, own_replies),
        (inbox, or_(inbox.c.conversation_id.in_(own_chats), inbox.c.turn_id.in_(own_turns))),
        (turn_documents, turn_documents.c.turn_id.in_(of_own_turns)),
        (turns, or_(turns.c.user_id == user_id, turns.c.conversation_id.in_(own_chats))),
        (conversations, conversations.c.id.in_(own_chats)),
        (profile_notes, profile_notes.c.user_id == user_id),
        (profiles, profiles.c.user_id == user_id),
        (identities, identities.c.user_id == user_id),
        (users, users.c.id == user_id),
    )


def _own_chats(user_id: str) -> Select[tuple[str]]:
    """Return the ids of the user's private chats; one without a turn yet is known by the platform's id of the user."""
    c = conversations.c
    unanswered = conversations.alias("unanswered")
    named_after = (
        select(unanswered.c.id)
        .join(
            identities,
            and_(
                identities.c.channel == unanswered.c.channel,
                identities.c.account == unanswered.c.account,
                identities.c.external_id == unanswered.c.chat,
            ),
        )
        .where(identities.c.user_id == user_id, unanswered.c.user_id.is_(None))
    )
    return select(c.id).where(c.is_private, or_(c.user_id == user_id, c.id.in_(named_after)))


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
