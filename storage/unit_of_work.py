"""What a piece of work gets: the repositories of one transaction.

    async def work(unit: UnitOfWork) -> TurnRecord: ...
    await database.write(work)

A unit lasts milliseconds: no network, no model and no other unit inside it.
"""

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.clock import Clock
from storage.config import StorageConfig
from storage.repositories.adapters import AdapterRepository
from storage.repositories.audit import AuditRepository
from storage.repositories.base import Context
from storage.repositories.conversations import ConversationRepository
from storage.repositories.feedback import FeedbackRepository
from storage.repositories.inbox import InboxRepository
from storage.repositories.outbox import OutboxRepository
from storage.repositories.turns import TurnRepository
from storage.repositories.users import UserRepository


class UnitOfWork:
    """The repositories of one transaction. Worthless after it."""

    def __init__(self, connection: AsyncConnection, config: StorageConfig, clock: Clock, quick: Connection | None = None) -> None:
        self._context = context = Context(connection, config, clock, quick)
        self.inbox = InboxRepository(context)
        self.outbox = OutboxRepository(context)
        self.users = UserRepository(context)
        self.conversations = ConversationRepository(context)
        self.turns = TurnRepository(context)
        self.feedback = FeedbackRepository(context)
        self.adapters = AdapterRepository(context)
        self.audit = AuditRepository(context)

    async def now(self) -> int:
        """Return the time of this unit: milliseconds since the Unix epoch, by the database's clock."""
        return await self._context.now()
