"""The `PlaceholderSlot` of one turn: the outbox row exists before its placeholder is on the screen."""

from storage.database import Database
from storage.records import Claim


class OutboxPlaceholder:
    """Reserves the row that the turn's commit will use. A row that a former run reserved comes back with its placeholder."""

    def __init__(self, database: Database, claim: Claim, turn_id: str, reply_to: str) -> None:
        self._database = database
        self._claim = claim
        self._turn_id = turn_id
        self._reply_to = reply_to
        self._outbox_id = ""

    async def reserve(self) -> str:
        """See `PlaceholderSlot`. Raises ClaimLost."""
        row = await self._database.write(lambda unit: unit.outbox.reserve(self._claim, self._turn_id, self._reply_to))
        self._outbox_id = row.id
        return row.placeholder_ref

    async def may_show(self) -> bool:
        """See `PlaceholderSlot`. Raises StorageError."""
        claim = self._claim
        conversation = await self._database.read(lambda unit: unit.conversations.get(claim.conversation.id))
        return (conversation.owner_epoch, conversation.claim_epoch) == (claim.conversation.owner_epoch, claim.claim_epoch)

    async def fill(self, ref: str) -> None:
        """See `PlaceholderSlot`. Raises NotFound."""
        await self._database.write(lambda unit: unit.outbox.set_placeholder(self._outbox_id, ref))
