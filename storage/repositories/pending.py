"""What a conversation says about the items that wait in it. Lock the conversation before counting again."""

from typing import Final

from sqlalchemy import bindparam, func, select, update

from storage.models import WAITING, conversations, inbox
from storage.repositories.base import Repository

STILL_PENDING: Final = {
    name: select(extreme(inbox.c.received_at)).where(inbox.c.conversation_id == conversations.c.id, WAITING).scalar_subquery()
    for name, extreme in (("pending_since", func.min), ("pending_last", func.max))
}
_RECOUNT = update(conversations).where(conversations.c.id == bindparam("of")).values(STILL_PENDING)


class PendingRepository(Repository):
    """Base of the repositories that take items out of a conversation or put some in."""

    async def _recount(self, conversation_id: str) -> None:
        await self._run(_RECOUNT, {"of": conversation_id})
