"""Chats that a platform gave a new id, such as a group that became a supergroup.

Mostly the conversation only gets the new key. Where the new chat has a conversation already, what waits in the old one goes there:
items in the order of their arrival, messages in the order they were made. What was said stays where it is.
"""

from typing import Any, Final

from sqlalchemy import Row, and_, case, func, or_, select, true, update

from storage.models import RESERVED, UNDELIVERED, WAITING, conversations, inbox, outbox
from storage.records import OutboxState, Owner
from storage.repositories.handover import HandOverRepository
from storage.repositories.pending import PendingRepository

NOBODYS_EPOCH: Final = -1  # owner_epoch of a message that no program may begin any more
_NO_CLAIM: Final = {"claim_epoch": conversations.c.claim_epoch + 1, "claimed_by": "", "lease_until": None}


def moved_chat(chat: str, old: str, new: str) -> str:
    """Return the name of the chat, or of a thread in it, after the move."""
    return new + chat[len(old) :] if chat == old or chat.startswith(f"{old}/") else chat


class ChatMove(HandOverRepository, PendingRepository):
    """One account's chats on their way to new ids."""

    async def move(self, channel: str, account: str, old: str, new: str) -> None:
        """Give the conversations of `old` and its threads the names that `new` has; merge them with those that are there."""
        await self._context.take_time()
        c = conversations.c
        inside = func.substr(c.chat, 1, len(old) + 1) == f"{old}/"
        found = select(conversations).where(c.channel == channel, c.account == account, or_(c.chat == old, inside))
        for before in await self._all(found.order_by(c.chat).with_for_update()):
            name = moved_chat(before.chat, old, new)
            target = select(conversations).where(c.channel == channel, c.account == account, c.chat == name).with_for_update()
            after = await self._first(target)
            if after is None:
                await self._change(before.id, chat=name)
            elif after.id != before.id:
                await self._merge(before, after)

    async def _merge(self, before: Row[Any], after: Row[Any]) -> None:
        """Bring what waits in the conversation `before` into `after`, and who has it."""
        if before.owner == Owner.HUMAN and after.owner == Owner.BOT:
            await self.take(after.id, f"the move of {before.id}")
        elif before.waiting_since is not None and after.owner == Owner.BOT:
            await self._change(after.id, waiting_since=func.coalesce(conversations.c.waiting_since, before.waiting_since))
        await self._move_messages(before, after.id)
        items = update(inbox).where(inbox.c.conversation_id == before.id, WAITING)
        if await self._changed(items.values(conversation_id=after.id)):
            # Older items came in under whoever answers the newer ones: claim again, in order.
            await self._change(after.id, **_NO_CLAIM)
        epoch = before.owner_epoch + 1
        await self._change(before.id, owner=Owner.BOT, owner_epoch=epoch, waiting_since=None, **_NO_CLAIM)
        for conversation_id in (before.id, after.id):
            await self._recount(conversation_id)

    async def _move_messages(self, before: Row[Any], after_id: str) -> None:
        """Move what is not delivered; what the bot may not say there is fenced off by its epoch."""
        after, o = await self.get(after_id), outbox.c
        # The turn that it was reserved for is lost with the claim; its placeholder stays behind in the old chat.
        reserved = update(outbox).where(o.conversation_id == before.id, RESERVED)
        await self._run(reserved.values(state=OutboxState.CANCELLED, orphans=o.orphans + 1, error="the chat moved"))
        may_speak = true() if after.owner is Owner.BOT else o.turn_id.is_(None)
        may_go = and_(o.owner_epoch == before.owner_epoch, may_speak)
        moved = update(outbox).where(o.conversation_id == before.id, UNDELIVERED)
        await self._run(moved.values(conversation_id=after.id, owner_epoch=case((may_go, after.owner_epoch), else_=NOBODYS_EPOCH)))
