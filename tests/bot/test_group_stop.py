"""/stop in a group: nobody silences an answer to somebody else, whichever way the stop comes."""

import asyncio

import pytest

from bot.inbox import RunningTurns
from bot.worker import WorkerConfig
from dialogue.engine.scripted import ScriptedEngine
from dialogue.messages import ConversationKey
from storage.database import Database
from storage.records import Claim, InboxState, TurnStatus
from storage.repositories.inbox import InboxRepository
from tests.bot.rig import Gate, Rig, build_rig

COUNTING = "one two three four five"
KEY = ConversationKey("fake", "bot", "chat")


async def say(rig: Rig, text: str, sender: str) -> None:
    """Somebody writes in the group."""
    await rig.say(text, sender=sender, is_private=False)


async def counting_for_ann(database: Database, *, lease_s: float = 30.0) -> tuple[Rig, Gate, asyncio.Task[bool]]:
    """Return a bot that is in the middle of an answer to Ann."""
    gate = Gate(tokens=4)
    rig = await build_rig(database, engine=ScriptedEngine(COUNTING, sleep=gate.sleep), worker=WorkerConfig(0.0, lease_s=lease_s))
    await say(rig, "count", "ann")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    return rig, gate, worker


async def test_another_member_does_not_stop_an_answer(database: Database) -> None:
    """Ann gets all of her answer; Bob is told that there is nothing of his to stop."""
    rig, gate, worker = await counting_for_ann(database)
    await say(rig, "/stop", "bob")
    gate.open.set()
    await worker
    await rig.work()
    assert rig.platform.shown()[0] == COUNTING
    assert "nothing to stop" in rig.platform.shown()[1]
    assert await rig.item_states() == [InboxState.DONE, InboxState.DONE]


async def test_who_is_answered_stops_the_answer(database: Database) -> None:
    """Ann's /stop counts although Bob's came before it, and both are done without another word."""
    rig, _, worker = await counting_for_ann(database)
    for sender in ("bob", "ann"):
        await say(rig, "/stop", sender)
    await worker
    await rig.work()
    assert rig.platform.shown() == ("one two thre",)
    assert [turn.status for turn in await rig.turns()] == [TurnStatus.STOPPED]
    assert await rig.item_states() == [InboxState.DONE] * 3


@pytest.mark.parametrize("sender", ["ann", "bob"])
async def test_a_stop_that_another_process_accepted(database: Database, sender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat tells the same stops apart: Bob's changes nothing, however often it is looked for."""
    renew, beats = InboxRepository.renew, asyncio.Queue[bool]()

    async def observed(unit: InboxRepository, claim: Claim, *, asker: str | None) -> bool:
        beats.put_nowait(stops := await renew(unit, claim, asker=asker))
        return stops

    monkeypatch.setattr(InboxRepository, "renew", observed)
    rig, gate, worker = await counting_for_ann(database, lease_s=0.03)
    other = await build_rig(database)
    other.platform.push(b"{}")  # number 1 is known already
    await say(other, "/stop", sender)
    if sender == "bob":
        while not beats.empty():
            beats.get_nowait()
        assert [await beats.get() for _ in range(3)] == [False] * 3
        gate.open.set()
    await worker
    assert [turn.status for turn in await rig.turns()] == [TurnStatus.STOPPED if sender == "ann" else TurnStatus.ANSWERED]


async def test_a_stop_of_another_member_before_the_answer_begins(database: Database) -> None:
    """What was claimed together follows the same rule."""
    rig = await build_rig(database, engine=ScriptedEngine(COUNTING))
    await say(rig, "count", "ann")
    await say(rig, "/stop", "bob")
    await rig.work()
    assert rig.platform.shown()[0] == COUNTING


@pytest.mark.parametrize(("stopper", "stops"), [("ann", True), ("bob", False)])
def test_a_stop_before_it_is_known_who_is_answered(stopper: str, stops: bool) -> None:
    """It is remembered until the turn is chosen."""
    running = RunningTurns()
    with running.track(KEY) as turn:
        assert running.stop(KEY, stopper)
        assert not turn.stop.is_set()
        turn.answers("ann")
        assert turn.stop.is_set() == stops
