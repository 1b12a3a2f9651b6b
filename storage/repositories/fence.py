"""The fence: only the newest claim on a conversation may write to it."""

from typing import Any, Final

from sqlalchemy import Row, and_, bindparam, exists, select

from storage.errors import ClaimLost
from storage.models import RESERVED, conversations, outbox
from storage.records import Claim
from storage.repositories.base import Repository

HELD: Final = and_(
    conversations.c.id == bindparam("held_id"),
    conversations.c.claim_epoch == bindparam("held_epoch"),
    conversations.c.claimed_by == bindparam("held_by"),
)
HOLDING: Final = select(
    conversations, exists().where(outbox.c.conversation_id == conversations.c.id, RESERVED).label("has_reserved")
).with_for_update(of=conversations)
_HOLD = HOLDING.where(HELD)


def held(claim: Claim) -> dict[str, Any]:
    """Return the parameters of HELD: nobody claimed the conversation after this claim, and it was not given back."""
    return {"held_id": claim.conversation.id, "held_epoch": claim.claim_epoch, "held_by": claim.worker}


class FencedRepository(Repository):
    """Base of the repositories that write for a claim.

    The conversation's row is locked first and everything else after it. On PostgreSQL that orders accept, claim and commit of one
    conversation, and each statement after the lock sees what the others committed.
    """

    async def _hold(self, claim: Claim) -> Row[Any]:
        """Lock and return the conversation, and whether a row of the outbox is reserved in it. Raises ClaimLost."""
        found = await self._first(_HOLD, held(claim))
        if found is None:
            raise ClaimLost("another worker has this conversation")
        return found

    async def _hold_as_owner(self, claim: Claim, owner_epoch: int) -> Row[Any]:
        """Lock and return the conversation if also no takeover happened since `owner_epoch`. Raises ClaimLost."""
        found = await self._hold(claim)
        if found.owner_epoch != owner_epoch:
            raise ClaimLost("the conversation changed hands")
        return found
