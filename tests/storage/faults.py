"""Stores with a fault each, to prove that the state machine would find it."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from storage.backend import T, Work
from storage.database import Database
from storage.models import conversations
from storage.records import Claim, OutboxRecord, OutboxState
from storage.repositories.fence import HOLDING, FencedRepository
from storage.repositories.outbox import OutboxRepository
from storage.unit_of_work import UnitOfWork


class AcknowledgesFirst:
    """Answers before COMMIT; each tenth unit is then lost, as with a power cut."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._units = 0

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(work)

    async def write(self, work: Work[T]) -> T:
        self._units += 1
        if self._units % 10:
            return await self._database.write(work)
        answered: list[T] = []

        async def cut(unit: UnitOfWork) -> None:
            answered.append(await work(unit))
            raise InterruptedError

        try:
            await self._database.write(cut)
        except InterruptedError:
            return answered[0]
        raise AssertionError("unreachable")


async def hold_without_a_fence(repository: FencedRepository, claim: Claim) -> Row[Any]:
    """Lock the conversation for whoever asks, however old the claim is."""
    return await repository._one(HOLDING.where(conversations.c.id == claim.conversation.id), "gone")


_due, _start, _resume = OutboxRepository.due, OutboxRepository.start, OutboxRepository.resume


async def due_as_if_never_sent(repository: OutboxRepository, channel: str, *, account: str) -> tuple[OutboxRecord, ...]:
    """Show messages whose sender fell silent as if nobody had begun them."""
    return tuple([replace(row, state=OutboxState.READY) for row in await _due(repository, channel, account=account)])


async def start_whatever_happened(repository: OutboxRepository, outbox_id: str, *, timeout_ms: int) -> OutboxRecord | None:
    """Let a message be sent again that may be on the platform already."""
    begin = _start if (await repository.get(outbox_id)).state is OutboxState.READY else _resume
    return await begin(repository, outbox_id, timeout_ms=timeout_ms) or await repository.get(outbox_id)
