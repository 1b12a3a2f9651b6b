"""Who has a conversation: a person takes over here, and gives back here."""

from typing import Any

from sqlalchemy import Row, and_, bindparam, select, update

from storage.errors import NotFound
from storage.models import UNDELIVERED, conversations, outbox
from storage.records import ConversationRecord, OutboxState, Owner, Takeover
from storage.repositories.audit import AuditRepository
from storage.repositories.base import Repository
from storage.repositories.outbox_reading import LEFT_BEHIND, NEVER, OutboxReading


def conversation_record(row: Row[Any]) -> ConversationRecord:
    """Return the frozen record of a row of `conversations`."""
    return ConversationRecord(
        id=row.id,
        channel=row.channel,
        account=row.account,
        chat=row.chat,
        is_private=row.is_private,
        owner=Owner(row.owner),
        owner_epoch=row.owner_epoch,
        claim_epoch=row.claim_epoch,
        waiting_since=row.waiting_since,
        skill=row.skill,
        window_start=row.window_start,
        summary=row.summary,
        turns=row.turns,
        created_at=row.created_at,
    )


_GET = select(conversations).where(conversations.c.id == bindparam("which"))


class HandOverRepository(Repository):
    """The owner of rows of `conversations`."""

    async def get(self, conversation_id: str) -> ConversationRecord:
        """Return the conversation. Raises NotFound."""
        found = await self._first(_GET, {"which": conversation_id})
        if found is None:
            raise NotFound("no such conversation")
        return conversation_record(found)

    async def is_claimed(self, conversation_id: str) -> bool:
        """Whether a worker of any process has the conversation just now."""
        c = conversations.c
        leased = select(c.id).where(c.id == conversation_id, c.claimed_by != "", c.lease_until > await self._now())
        return await self._first(leased) is not None

    async def take(self, conversation_id: str, actor: str) -> Takeover:
        """Give the conversation to a person: from the commit of this unit on, the bot begins no new message in it.

        What the bot reserved or had ready is cancelled, and a placeholder that this leaves on the screen counted as an orphan. What is
        unknown is not tried again. `Takeover.in_flight` is the one message that is crossing the border right now: the takeover is
        complete when that row has left `started`, or when the caller marked it unknown after the time-out of a request. What a person
        wrote is still delivered. Raises NotFound.
        """
        taken = await self._hand_over(conversation_id, Owner.HUMAN)
        of_bot = and_(outbox.c.conversation_id == conversation_id, outbox.c.turn_id.is_not(None))
        queued = outbox.c.state.in_([OutboxState.RESERVED, OutboxState.READY])
        ended = {"state": OutboxState.CANCELLED, "orphans": outbox.c.orphans + LEFT_BEHIND, "error": f"taken over by {actor}"}
        await self._run(update(outbox).where(of_bot, queued).values(ended))
        await self._run(update(outbox).where(of_bot, outbox.c.state == OutboxState.UNKNOWN).values(next_attempt_at=NEVER))
        await AuditRepository(self._context).append(actor, "conversation.take", conversation_id, "")
        return Takeover(taken, await OutboxReading(self._context).in_flight(conversation_id))

    async def release(self, conversation_id: str, actor: str) -> ConversationRecord:
        """Give the conversation back to the bot; nothing happens if the bot has it. What the person wrote is still delivered.

        Raises NotFound.
        """
        before = await self.get(conversation_id)
        if before.owner is Owner.BOT:
            return before
        given = await self._hand_over(conversation_id, Owner.BOT)
        await AuditRepository(self._context).append(actor, "conversation.release", conversation_id, "")
        return given

    async def _hand_over(self, conversation_id: str, owner: Owner) -> ConversationRecord:
        statement = (
            update(conversations)
            .where(conversations.c.id == conversation_id)
            .values(owner=owner, owner_epoch=conversations.c.owner_epoch + 1, waiting_since=None)
            .returning(conversations)
        )
        changed = conversation_record(await self._one(statement, "no such conversation"))
        by_person = and_(outbox.c.conversation_id == conversation_id, outbox.c.turn_id.is_(None), UNDELIVERED)
        await self._run(update(outbox).where(by_person).values(owner_epoch=changed.owner_epoch))
        return changed

    async def _change(self, conversation_id: str, **values: Any) -> None:
        if not await self._changed(update(conversations).where(conversations.c.id == conversation_id).values(**values)):
            raise NotFound("no such conversation")
