"""How events come in: durable, once each, in the order of their arrival."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby

from sqlalchemy import BigInteger, Executable, bindparam, func

from storage.ids import new_id
from storage.models import conversations, inbox
from storage.records import InboxState, NewInboxItem
from storage.repositories.base import NewInsert
from storage.repositories.moving import ChatMove, moved_chat
from storage.repositories.pending import PendingRepository
from storage.repositories.polling import PollingRepository


class AcceptingRepository(PollingRepository, PendingRepository):
    """New rows of `inbox`."""

    async def accept(
        self, channel: str, account: str, items: Sequence[NewInboxItem], offset: int | None = None, *, poll_epoch: int | None = None
    ) -> int:
        """Store events as they came in, with the polling offset that confirms them. Return how many were new.

        Acknowledge to the platform only after the unit's commit. An event id that is already there changes nothing. Events that tell of
        a chat's new id are obeyed first: those of the old chat go to the new one. Raises ClaimLost when `poll_epoch` is not the newest.
        """
        if poll_epoch is not None:
            await self._check_poller(channel, account, poll_epoch)
        if offset is not None:
            await self._store_offset(channel, account, offset)
        items = await self._follow_moves(channel, account, items)
        new = 0
        # In the order of chats, so that two accepting processes never wait for one another in a circle.
        for chat, group in groupby(sorted(items, key=lambda item: item.chat), key=lambda item: item.chat):
            new += await self._accept_chat(channel, account, chat, tuple(group))
        return new

    async def _follow_moves(self, channel: str, account: str, items: Sequence[NewInboxItem]) -> Sequence[NewInboxItem]:
        """Move the chats that got new ids; return the events with the chats they belong to now."""
        for old, new in {(item.moved_from, item.moved_to): None for item in items if item.moved_from and item.moved_to}:
            await ChatMove(self._context).move(channel, account, old, new)
            items = [replace(item, chat=moved_chat(item.chat, old, new)) for item in items]
        return items

    async def _accept_chat(self, channel: str, account: str, chat: str, items: tuple[NewInboxItem, ...]) -> int:
        now = await self._now()
        is_private = all(item.is_private for item in items)
        chat_row = {"id": new_id(), "channel": channel, "account": account, "chat": chat, "is_private": is_private, "now": now}
        conversation_id = (await self._run(_open_chat(self._insert), chat_row)).scalar_one()
        shared = {"channel": channel, "account": account, "conversation_id": conversation_id, "received_at": now}
        rows = [{**shared, "event_id": item.event_id, "raw": item.raw, "kind": item.kind, "sender": item.sender} for item in items]
        # RETURNING, because drivers do not count the rows of several parameter sets.
        stored = len((await self._run(_store_items(self._insert), rows if len(rows) > 1 else rows[0])).all())
        if stored != len(items):
            await self._recount(conversation_id)
        return stored


@cache
def _open_chat(new: NewInsert) -> Executable:
    """Return the INSERT that makes or locks a conversation, notes that something waits in it, and returns its id."""
    now = bindparam("now", type_=BigInteger)
    statement = new(conversations).values(pending_since=now, pending_last=now, created_at=now)
    c, proposed = conversations.c, statement.excluded
    changes = {
        "is_private": c.is_private & proposed.is_private,
        "pending_since": func.coalesce(c.pending_since, proposed.pending_since),
        "pending_last": proposed.pending_last,
    }
    return statement.on_conflict_do_update(index_elements=["channel", "account", "chat"], set_=changes).returning(c.id)


@cache
def _store_items(new: NewInsert) -> Executable:
    return new(inbox).values(state=InboxState.NEW).on_conflict_do_nothing().returning(inbox.c.seq)
