"""All data of one user, to give it out or to delete it: everything, or what they did in one conversation.

A private chat belongs to its user as a whole. Of a group, only the turns that the user began belong to them, with the raw events,
prompts and replies of those turns, and the raw events they sent that never became a turn.
"""

import base64
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, delete, exists, func, or_, select, update

from storage.models import (
    SIGNED,
    WAITING,
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
from storage.repositories.pending import PendingRepository


class UserData(PendingRepository):
    """Everything that is stored about one user."""

    async def export(self, user_id: str, conversation_id: str | None = None) -> dict[str, Any]:
        """Return a value of dict, list, str, int, bool and None, one list of rows for each table; bytes as base64."""
        await self._context.take_time()
        tables = {table.name: await self._rows(table, condition) for table, condition in _belongings(user_id, conversation_id)}
        return {"user_id": user_id, **tables}

    async def erase(self, user_id: str, conversation_id: str | None = None) -> dict[str, int]:
        """Delete the rows; return how many went, by table."""
        await self._context.take_time()
        groups = select(turns.c.conversation_id).where(_own_turns(user_id, conversation_id))
        # A rolling summary of a group may repeat what the user said.
        await self._run(
            update(conversations).where(conversations.c.id.in_(groups), conversations.c.is_private.is_(False)).values(summary="")
        )
        waiting = select(inbox.c.conversation_id).where(inbox.c.seq.in_(_sent_items(user_id, conversation_id)), WAITING)
        shortened = select(conversations.c.id).where(conversations.c.id.in_(waiting)).order_by(conversations.c.id).with_for_update()
        chats = [row.id for row in await self._all(shortened)]
        gone = {table.name: await self._changed(delete(table).where(owned)) for table, owned in _belongings(user_id, conversation_id)}
        for chat in chats:
            await self._recount(chat)
        return gone

    async def _rows(self, table: Table, condition: ColumnElement[bool]) -> list[dict[str, Any]]:
        rows = await self._all(select(table).where(condition).order_by(*table.primary_key.columns))
        return [dict(zip(table.columns.keys(), map(_plain, row), strict=True)) for row in rows]


def _belongings(user_id: str, conversation_id: str | None) -> tuple[tuple[Table, ColumnElement[bool]], ...]:
    """Return each table with the condition of the user's rows: what refers to others first, so that it can be deleted in this order."""
    done = _doings(user_id, conversation_id)
    if conversation_id is not None:
        return done
    return (
        *done,
        (profile_notes, profile_notes.c.user_id == user_id),
        (profiles, profiles.c.user_id == user_id),
        (identities, identities.c.user_id == user_id),
        (users, users.c.id == user_id),
    )


def _doings(user_id: str, conversation_id: str | None) -> tuple[tuple[Table, ColumnElement[bool]], ...]:
    """Return what the user did in conversations, with what came of it."""
    own_chats = _own_chats(user_id, conversation_id)
    by_user = _own_turns(user_id, conversation_id)
    own_turns = select(turns.c.id).where(by_user)
    own_replies = or_(outbox.c.conversation_id.in_(own_chats), outbox.c.turn_id.in_(own_turns))
    concerned = or_(by_user, turns.c.conversation_id.in_(own_chats))
    of_own_turns = select(turns.c.id).where(concerned)
    rated = feedback.c.user_id == user_id
    if conversation_id is not None:
        rated = and_(rated, feedback.c.turn_id.in_(select(turns.c.id).where(turns.c.conversation_id == conversation_id)))
    sent = inbox.c.seq.in_(_sent_items(user_id, conversation_id))
    return (
        (feedback, or_(rated, feedback.c.turn_id.in_(of_own_turns))),
        (outbox_chunks, outbox_chunks.c.outbox_id.in_(select(outbox.c.id).where(own_replies))),
        (outbox, own_replies),
        (inbox, or_(inbox.c.conversation_id.in_(own_chats), inbox.c.turn_id.in_(own_turns), sent)),
        (turn_documents, turn_documents.c.turn_id.in_(of_own_turns)),
        (turns, concerned),
        (conversations, conversations.c.id.in_(own_chats)),
    )


def _own_turns(user_id: str, conversation_id: str | None) -> ColumnElement[bool]:
    mine = turns.c.user_id == user_id
    return mine if conversation_id is None else and_(mine, turns.c.conversation_id == conversation_id)


def _sent_items(user_id: str, conversation_id: str | None) -> Select[tuple[int]]:
    """Return the numbers of the raw events that the user sent, answered or not, as far as the platform said who sent them."""
    same = (identities.c.channel == inbox.c.channel, identities.c.account == inbox.c.account, identities.c.external_id == inbox.c.sender)
    sent = select(inbox.c.seq).join(identities, and_(*same)).where(identities.c.user_id == user_id, SIGNED)
    # An answered one belongs to the user of its turn, who need not be everybody in it.
    sent = sent.where(inbox.c.turn_id.is_(None))
    return sent if conversation_id is None else sent.where(inbox.c.conversation_id == conversation_id)


def _own_chats(user_id: str, conversation_id: str | None) -> Select[tuple[str]]:
    """Return the ids of the user's private chats; one without a turn yet is known by the platform's id of the user."""
    c = conversations.c
    nobodys = and_(c.user_id.is_(None), is_named_after(identities.c.user_id == user_id))
    owned = select(c.id).where(c.is_private, or_(c.user_id == user_id, nobodys))
    return owned if conversation_id is None else owned.where(c.id == conversation_id)


def is_named_after(*condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether a conversation's chat, or the chat that it is a thread of, bears the platform's id of a known user."""
    c, i = conversations.c, identities.c
    thread_of = func.substr(c.chat, 1, func.length(i.external_id) + 1) == i.external_id + "/"
    named = and_(i.channel == c.channel, i.account == c.account, or_(i.external_id == c.chat, thread_of))
    return exists().where(named, *condition)


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
