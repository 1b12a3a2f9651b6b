"""The `PlaceholderSlot` of one turn: the outbox row exists before its placeholder is on the screen."""

from storage.database import Database
from storage.errors import NotFound
from storage.records import Claim, Owner


async def may_show(database: Database, claim: Claim) -> bool:
    """Whether the bot may still show something under this claim. Raises StorageError.

    A conversation that was erased meanwhile has nobody who could have taken it.
    """
    try:
        now = await database.read(lambda unit: unit.conversations.get(claim.conversation.id))
    except NotFound:
        return claim.conversation.owner is Owner.BOT
    return now.owner is Owner.BOT and (now.owner_epoch, now.claim_epoch) == (claim.conversation.owner_epoch, claim.claim_epoch)


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
        return await may_show(self._database, self._claim)

    async def fill(self, ref: str) -> None:
        """See `PlaceholderSlot`. Raises NotFound."""
        await self._database.write(lambda unit: unit.outbox.set_placeholder(self._outbox_id, ref, turn_id=self._turn_id))
