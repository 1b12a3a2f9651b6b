"""Conversations: their chats, what sticks to them, who waits in them."""

from sqlalchemy import ColumnElement, and_, case, delete, select

from storage.ids import new_id
from storage.models import conversations
from storage.records import ConversationRecord
from storage.repositories.handover import HandOverRepository, conversation_record
from storage.repositories.moving import ChatMove
from storage.repositories.user_data import is_named_after


class ConversationRepository(HandOverRepository):
    """Rows of `conversations`."""

    async def ensure(self, channel: str, account: str, chat: str, is_private: bool) -> ConversationRecord:  # noqa: FBT001 - a fact of the chat
        """Return the conversation of this chat; make it when it is new. A chat that was ever a group stays one."""
        statement = self._insert(conversations).values(
            id=new_id(), channel=channel, account=account, chat=chat, is_private=is_private, created_at=await self._now()
        )
        statement = statement.on_conflict_do_update(
            index_elements=["channel", "account", "chat"],
            set_={"is_private": and_(conversations.c.is_private, statement.excluded.is_private)},
        ).returning(conversations)
        return conversation_record((await self._run(statement)).one())

    async def find(self, channel: str, account: str, chat: str) -> ConversationRecord | None:
        """Return the conversation of this chat, or None."""
        found = await self._first(select(conversations).where(*_key(channel, account, chat)))
        return None if found is None else conversation_record(found)

    async def list(self, *, waiting: bool = False, limit: int = 50, before: str | None = None) -> tuple[ConversationRecord, ...]:
        """Return the newest conversations older than the id `before`; with `waiting`, those in which somebody waits, longest first.

        Somebody waits who asked for a person, or who wrote to the person that has the conversation and has no answer.
        """
        statement = select(conversations).limit(limit)
        if waiting:
            statement = statement.where(conversations.c.waiting_since.is_not(None)).order_by(
                conversations.c.waiting_since, conversations.c.id
            )
        else:
            statement = statement.order_by(conversations.c.id.desc())
        if before is not None:
            statement = statement.where(conversations.c.id < before)
        return tuple(conversation_record(row) for row in await self._all(statement))

    async def set_skill(self, conversation_id: str, skill: str) -> None:
        """Set the sticky skill; "" is the default one. Raises NotFound."""
        await self._change(conversation_id, skill=skill)

    async def start_new(self, conversation_id: str) -> None:
        """Leave everything said so far out of later prompts. Raises NotFound."""
        await self._change(conversation_id, window_start=conversations.c.turns + 1, summary="")

    async def set_waiting(self, conversation_id: str, *, waiting: bool = True) -> None:
        """Note that the user asks for a person, or no longer does. Raises NotFound."""
        since = case((conversations.c.waiting_since.is_(None), await self._now()), else_=conversations.c.waiting_since)
        await self._change(conversation_id, waiting_since=since if waiting else None)

    async def move(self, channel: str, account: str, old_chat: str, new_chat: str) -> None:
        """Follow a chat whose platform gave it a new id, with its threads; nothing happens when nobody knows the old one.

        If the new chat has a conversation, what waits in the old one is answered and delivered there. A person who has the old
        conversation has the new one then. May be repeated.
        """
        await ChatMove(self._context).move(channel, account, old_chat, new_chat)

    async def erase_chat(self, conversation_id: str) -> bool:
        """Delete a private conversation of somebody who is not known, with everything in it. False: it is a group, or theirs is known.

        Somebody who was erased and writes again leaves such a conversation: `users.erase` cannot reach it.
        """
        await self._context.take_time()
        nobodys = and_(conversations.c.id == conversation_id, conversations.c.is_private, conversations.c.user_id.is_(None))
        return bool(await self._changed(delete(conversations).where(nobodys, ~is_named_after())))


def _key(channel: str, account: str, chat: str) -> tuple[ColumnElement[bool], ...]:
    return (conversations.c.channel == channel, conversations.c.account == account, conversations.c.chat == chat)
