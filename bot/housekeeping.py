"""What has to be done now and then: old documents and event ids go, dead questions are put aside."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from storage.database import Database
from storage.errors import StorageError
from storage.records import OutboxState
from storage.unit_of_work import UnitOfWork

TIDY_S = 3600.0
SCRUB_S = 600.0
DEAD_QUESTION_MS = 3_600_000  # nobody waits an hour for `kefu ask`

log = structlog.get_logger(__name__)


async def repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Run `work` at once and then every `every_s` seconds, until cancelled. A database that is away is tried again next time."""
    while True:
        try:
            await work()
        except StorageError as error:
            log.warning("housekeeping.postponed", reason=str(error))
        await asyncio.sleep(every_s)


class Tidier:
    """Deletes what is kept for a time only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tidy(self) -> None:
        """Do everything that is due. In small units, so that nobody waits for them. Raises StorageError."""
        documents = 0
        while expired := await self._database.write(lambda unit: unit.turns.expire_documents()):
            documents += expired
        events = 0
        while expired := await self._database.write(lambda unit: unit.inbox.expire()):
            events += expired
        questions = 0
        while await self._database.write(_forget_question):
            questions += 1
        rows = await self._database.write(_cancel_answers)
        log.info("housekeeping.done", documents=documents, events=events, questions=questions, answers=rows)


async def _forget_question(unit: UnitOfWork) -> bool:
    """Put one question of a dead `kefu ask` aside; return whether there was one."""
    claim = await unit.inbox.claim("housekeeping", channel="ask", quiet_ms=DEAD_QUESTION_MS)
    if claim is None:
        return False
    await unit.inbox.dismiss(claim, [item.id for item in claim.items])
    await unit.inbox.release(claim)
    return True


async def _cancel_answers(unit: UnitOfWork) -> int:
    """Cancel answers that no `kefu ask` waits for any more; return how many."""
    now = await unit.now()
    dead = [row for row in await unit.outbox.due("ask") if row.state is OutboxState.READY and row.created_at < now - DEAD_QUESTION_MS]
    for row in dead:
        await unit.outbox.cancel(row.id, "nobody waits for it")
    return len(dead)


class Scrubber:
    """Lets the bytes of what people had erased leave the files: soon, but not once for each of them, because it rewrites the database."""

    def __init__(self, database: Database, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._database = database
        self._sleep = sleep
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Something was erased."""
        self._wanted.set()

    async def run(self) -> None:
        """Scrub when it was asked for, at most every SCRUB_S seconds, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._database.scrub()
            except StorageError as error:  # a reader was in the way
                log.warning("housekeeping.scrub_postponed", reason=str(error))
                self._wanted.set()
            await self._sleep(SCRUB_S)
