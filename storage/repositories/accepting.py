"""How events come in: durable, once each, in the order of their arrival."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import Executable, func

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
        return await self._store(channel, account, items) if items else 0

    async def _follow_moves(self, channel: str, account: str, items: Sequence[NewInboxItem]) -> Sequence[NewInboxItem]:
        """Move the chats that got new ids; return the events with the chats they belong to now."""
        for old, new in {(item.moved_from, item.moved_to): None for item in items if item.moved_from and item.moved_to}:
            await ChatMove(self._context).move(channel, account, old, new)
            items = [replace(item, chat=moved_chat(item.chat, old, new)) for item in items]
        return items

    async def _store(self, channel: str, account: str, items: Sequence[NewInboxItem]) -> int:
        opened = await self._open_chats(channel, account, items)
        shared = {"channel": channel, "account": account, "received_at": await self._now()}
        rows = [
            {
                **shared,
                "conversation_id": opened[item.chat],
                "event_id": item.event_id,
                "raw": item.raw,
                "kind": item.kind,
                "sender": item.sender,
            }
            for item in items
        ]
        # RETURNING, because drivers do not count the rows of several parameter sets.
        stored = await self._all(_store_items(self._insert), rows if len(rows) > 1 else rows[0])
        if len(stored) != len(items):
            await self._recount_where_known(opened, items, Counter(row.conversation_id for row in stored))
        return len(stored)

    async def _open_chats(self, channel: str, account: str, items: Sequence[NewInboxItem]) -> dict[str, str]:
        """Make or lock the conversations of the events; return their ids by chat."""
        now = await self._now()
        private: dict[str, bool] = {}
        for item in items:
            private[item.chat] = private.get(item.chat, True) and item.is_private
        shared = {"channel": channel, "account": account, "created_at": now, "pending_since": now, "pending_last": now}
        # In the order of chats, so that two accepting processes never wait for one another in a circle.
        rows = [{**shared, "id": new_id(), "chat": chat, "is_private": private[chat]} for chat in sorted(private)]
        opened = await self._all(_open_chats(self._insert), rows if len(rows) > 1 else rows[0])
        return {row.chat: row.id for row in opened}

    async def _recount_where_known(self, opened: dict[str, str], items: Sequence[NewInboxItem], stored: Counter[str]) -> None:
        """Count again what waits in chats of which an event was there already: `_open_chats` took all of them for new."""
        given = Counter(opened[item.chat] for item in items)
        for conversation_id in sorted(given):
            if stored[conversation_id] != given[conversation_id]:
                await self._recount(conversation_id)


@cache
def _open_chats(new: NewInsert) -> Executable:
    """Return the INSERT that makes or locks conversations, notes that something waits in them, and returns their ids."""
    statement = new(conversations)
    c, proposed = conversations.c, statement.excluded
    changes = {
        "is_private": c.is_private & proposed.is_private,
        "pending_since": func.coalesce(c.pending_since, proposed.pending_since),
        "pending_last": proposed.pending_last,
    }
    return statement.on_conflict_do_update(index_elements=["channel", "account", "chat"], set_=changes).returning(c.id, c.chat)


@cache
def _store_items(new: NewInsert) -> Executable:
    return new(inbox).values(state=InboxState.NEW).on_conflict_do_nothing().returning(inbox.c.conversation_id)
