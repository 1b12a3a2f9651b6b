"""The fence: only the newest claim on a conversation may write to it."""

from typing import Any

from sqlalchemy import ColumnElement, Row, and_, select

from storage.errors import ClaimLost
from storage.models import conversations
from storage.records import Claim
from storage.repositories.base import Repository


def still_held(claim: Claim) -> ColumnElement[bool]:
    """Return the condition on `conversations` that nobody claimed it after this claim, and that it was not given back."""
    return and_(
        conversations.c.id == claim.conversation.id,
        conversations.c.claim_epoch == claim.claim_epoch,
        conversations.c.claimed_by == claim.worker,
    )


class FencedRepository(Repository):
    """Base of the repositories that write for a claim.

    The conversation's row is locked first and everything else after it. On PostgreSQL that orders accept, claim and commit of one
    conversation, and each statement after the lock sees what the others committed.
    """

    async def _hold(self, claim: Claim) -> Row[Any]:
        """Lock and return the conversation. Raises ClaimLost."""
        held = await self._first(select(conversations).where(still_held(claim)).with_for_update())
        if held is None:
            raise ClaimLost("another worker has this conversation")
        return held

    async def _hold_as_owner(self, claim: Claim, owner_epoch: int) -> Row[Any]:
        """Lock and return the conversation if also no takeover happened since `owner_epoch`. Raises ClaimLost."""
        held = await self._hold(claim)
        if held.owner_epoch != owner_epoch:
            raise ClaimLost("the conversation changed hands")
        return held
