"""What is kept for a time only goes; what waits for nobody is put aside."""

import asyncio

import pytest

from bot.channels.ask import AskChannel
from bot.housekeeping import DEAD_QUESTION_MS, Tidier, repeat
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import DatabaseUnavailable
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
