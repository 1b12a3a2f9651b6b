"""The heartbeat of a claim: keeps the lease while a turn runs, and ends the turn when the lease is lost or a person takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import structlog

from bot.inbox import RunningTurn
from storage.database import Database
from storage.errors import ClaimLost, StorageError
from storage.records import Claim

log = structlog.get_logger(__name__)


class Lease:
    """Renews `claim` every `every_s` seconds while the block runs; sets `turn.stop` when a /stop of who is answered waits."""

    def __init__(self, database: Database, claim: Claim, *, every_s: float, turn: RunningTurn) -> None:
        self._database = database
        self._claim = claim
        self._every_s = every_s
        self._turn = turn
        self._fuse: asyncio.Timeout | None = None
        self._lost = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Cancel the block when the lease is lost. Raises ClaimLost."""
        try:
            async with asyncio.timeout(0 if self._lost else None) as self._fuse:
                yield
        except TimeoutError:
            if not self._lost:
                raise
            raise ClaimLost("the lease ended, or a person has this conversation") from None
        finally:
            self._fuse = None

    async def _beat(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._every_s)
            try:
                if await self._database.write(lambda unit: unit.inbox.renew(self._claim, asker=self._turn.asker)):
                    self._turn.stop.set()
            except ClaimLost:
                self._lose()
            except StorageError as error:  # the database is away: the lease may outlive that
                log.warning("lease.not_renewed", conversation_id=self._claim.conversation.id, reason=str(error))

    async def _watch(self) -> None:
        await self._turn.abandon.wait()
        self._lose()

    def _lose(self) -> None:
        self._lost = True
        if self._fuse is not None:
            self._fuse.reschedule(asyncio.get_running_loop().time())
