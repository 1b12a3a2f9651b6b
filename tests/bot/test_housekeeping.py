"""What is kept for a time only goes; what waits for nobody is put aside."""

import asyncio

import pytest

from bot.channels.ask import AskChannel
from bot.housekeeping import DEAD_QUESTION_MS, SCRUB_S, Scrubber, Tidier, repeat
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.records import InboxState, NewInboxItem, OutboxState
from tests.bot.rig import build_rig

DAY_MS = 86_400_000


async def test_old_documents_and_event_ids_go(database: Database, clock: ManualClock) -> None:
    """After their time the prompt of a turn and the answered event are gone; the turn stays."""
    rig = await build_rig(database)
    await rig.say("hello")
    await rig.work()
    (turn,) = await rig.turns()
    assert await database.read(lambda unit: unit.turns.document(turn.id))
    clock.advance(31 * DAY_MS)
    await Tidier(database).tidy()
    assert await database.read(lambda unit: unit.turns.document(turn.id)) is None
    assert await rig.items() == ()
    assert await rig.turns() == (turn,)


async def test_questions_of_a_dead_ask_are_put_aside(database: Database, clock: ManualClock) -> None:
    """A `kefu ask` that was killed leaves nothing that waits for ever; a younger question is left alone."""
    await database.write(lambda unit: unit.inbox.accept("ask", "dead", [NewInboxItem("1", "1", b"{}")]))
    clock.advance(DEAD_QUESTION_MS)
    await database.write(lambda unit: unit.inbox.accept("ask", "alive", [NewInboxItem("2", "2", b"{}")]))
    await Tidier(database).tidy()
    states = {item.account: item.state for item in await database.read(lambda unit: unit.inbox.list())}
    assert states == {"dead": InboxState.DONE, "alive": InboxState.NEW}


async def test_answers_that_nobody_waits_for_are_cancelled(database: Database, clock: ManualClock) -> None:
    """The answer of a killed `kefu ask` does not count as undelivered for ever."""
    kept = await database.write(lambda unit: unit.conversations.ensure("ask", "dead", "1", True))
    await database.write(lambda unit: unit.outbox.enqueue(kept.id, "late", owner_epoch=0))
    await Tidier(database).tidy()
    assert await database.read(lambda unit: unit.outbox.counts()) == {OutboxState.READY: 1}
    clock.advance(DEAD_QUESTION_MS + 1)
    await Tidier(database).tidy()
    assert await database.read(lambda unit: unit.outbox.counts()) == {OutboxState.CANCELLED: 1}


async def test_a_question_that_nobody_asked_here_needs_no_answer(database: Database) -> None:
    """What an earlier process was asked is done without a turn when this one reads it."""
    channel = AskChannel(user="ann", max_chars=100)
    rig = await build_rig(database, also=channel)
    await rig.inlet(channel).accept([NewInboxItem("1", "old", b'{"text": "hello", "chat": "old"}')])
    await rig.work()
    assert await rig.item_states() == [InboxState.DONE]
    assert await rig.rows() == ()


async def test_housekeeping_outlives_a_database_that_is_away() -> None:
    """The work is tried again at its next time."""
    tries = asyncio.Semaphore(0)

    async def work() -> None:
        tries.release()
        raise DatabaseUnavailable("away")

    task = asyncio.create_task(repeat(work, 0.0))
    for _ in range(3):
        await tries.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Pauses:
    """The `sleep` of a scrubber: says that it sleeps, and wakes when it is told to."""

    def __init__(self) -> None:
        self.lengths: list[float] = []
        self.sleeps = asyncio.Event()
        self._over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self.sleeps.set()
        await self._over.wait()
        self._over.clear()

    async def end(self) -> None:
        """Let the pause end and the next one begin."""
        self.sleeps.clear()
        self._over.set()
        await self.sleeps.wait()


async def _scrubs(monkeypatch: pytest.MonkeyPatch, database: Database, *outcomes: Exception | None) -> list[str]:
    """Let `scrub` end as told, with success once there are no more outcomes; return a list that grows with each call."""
    calls, script = list[str](), list(outcomes)

    async def scrub() -> None:
        calls.append("scrub")
        error = script.pop(0) if script else None
        if error is not None:
            raise error

    monkeypatch.setattr(database, "scrub", scrub)
    return calls


async def test_many_erasures_are_one_scrub(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is scrubbed at once; those of the next ten minutes together when these are over; then there is nothing to do."""
    calls, pauses = await _scrubs(monkeypatch, database), Pauses()
    scrubber = Scrubber(database, pauses.sleep)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scrubber.run())
        scrubber.request()
        await pauses.sleeps.wait()
        assert len(calls) == 1
        for _ in range(5):
            scrubber.request()
        await pauses.end()
        assert (len(calls), pauses.lengths) == (2, [SCRUB_S, SCRUB_S])
        task.cancel()


async def test_a_scrub_that_was_in_the_way_comes_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody reads, the bytes have to wait; they are not forgotten."""
    calls, pauses = await _scrubs(monkeypatch, database, DatabaseBusy("a backup reads"), DatabaseUnavailable("away")), Pauses()
    scrubber = Scrubber(database, pauses.sleep)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(scrubber.run())
        scrubber.request()
        await pauses.sleeps.wait()
        await pauses.end()
        await pauses.end()
        assert len(calls) == 3
        task.cancel()
