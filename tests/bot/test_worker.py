"""In order inside a conversation, parallel across conversations, and nothing that goes wrong in a turn stays without an end."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from bot.channels.base import Channel, UnparsableEvent
from bot.channels.fake_platform import PLACEHOLDER, Fault, FaultKind
from bot.worker import WorkerConfig
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import Fault as EngineFault
from dialogue.engine.scripted import FaultKind as EngineFaultKind
from dialogue.engine.scripted import ScriptedEngine
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost
from storage.models import conversations
from storage.records import InboxRecord, InboxState, OutboxState, TurnStatus
from storage.unit_of_work import UnitOfWork
from tests.bot.rig import Gate, build_rig, seen
from tests.waiting import until


async def test_a_message_is_answered_once(database: Database) -> None:
    """The item is done, the row is sent, the person sees exactly the stored text."""
    rig = await build_rig(database)
    await rig.say("hello")
    assert await rig.work() == 1
    assert rig.platform.shown() == ("You said: hello",)
    assert await rig.item_states() == [InboxState.DONE]
    assert await rig.row_states() == [OutboxState.SENT]
    assert await rig.work() == 0


async def test_a_burst_is_one_turn_and_a_command_stands_alone(database: Database) -> None:
    """Plain texts in a row are answered together; a command between them is answered by itself, in order."""
    rig = await build_rig(database)
    for text in ("one", "two", "/privacy", "three"):
        await rig.say(text)
    assert await rig.work() == 3
    turns = await rig.turns()
    assert [turn.user_text for turn in turns] == ["one\ntwo", "/privacy", "three"]
    assert [item.turn_id for item in await rig.items()] == [turns[0].id, turns[0].id, turns[1].id, turns[2].id]


async def test_the_quiet_window_waits_for_the_rest_of_a_burst(database: Database, clock: ManualClock) -> None:
    """Nothing is answered before the person was quiet for the window; what came meanwhile is in the same turn."""
    rig = await build_rig(database, worker=WorkerConfig(quiet_s=0.8))
    await rig.say("one")
    clock.advance(700)
    await rig.say("two")
    clock.advance(700)
    assert await rig.work() == 0
    clock.advance(100)
    assert await rig.work() == 1
    assert rig.platform.shown() == ("You said: one\ntwo",)


async def test_the_terminal_kind_of_channel_does_not_wait(database: Database) -> None:
    """Where nobody writes in bursts, each message is a turn at once."""
    rig = await build_rig(database, worker=WorkerConfig(quiet_s=0.8), channel={"joins_bursts": False})
    await rig.say("one")
    await rig.say("two")
    assert await rig.work() == 2


async def test_a_slow_answer_holds_up_nobody_else(database: Database) -> None:
    """While one conversation waits for the model, others are accepted and answered; its own next message waits."""
    gate = Gate()
    rig = await build_rig(database, engine=ScriptedEngine(echo_user, sleep=gate.sleep))
    await rig.say("slow", chat="a")
    workers = [asyncio.create_task(rig.pool.run()) for _ in range(2)]
    await gate.reached.wait()
    await rig.say("/privacy", chat="b")
    await rig.say("next", chat="a")
    await seen(rig, lambda: len(rig.platform.shown("b")) == 1)
    assert rig.platform.shown("a") == ()
    gate.open.set()
    await seen(rig, lambda: len(rig.platform.shown("a")) == 2)
    assert rig.platform.shown("a") == ("You said: slow", "You said: next")
    rig.pool.close()
    await asyncio.gather(*workers)


async def test_bytes_that_cannot_be_read_are_quarantined(database: Database) -> None:
    """They stay visible with the reason, are never tried again, and the message behind them is answered."""
    rig = await build_rig(database)
    rig.platform.push(b"\xff{")
    rig.platform.push(b'{"id": 2, "text": "no sender"}')
    rig.platform.say("hello")
    await rig.receive()
    await rig.work()
    assert await rig.item_states() == [InboxState.QUARANTINED, InboxState.QUARANTINED, InboxState.DONE]
    assert all(item.error for item in (await rig.items())[:2])
    assert rig.platform.shown() == ("You said: hello",)


async def test_a_defect_of_the_parser_quarantines_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that trips over an event loses neither the event nor the conversation."""
    rig = await build_rig(database)
    parse = rig.channel.parse

    def broken(item: InboxRecord) -> object:
        if b"trap" in item.raw:
            raise ZeroDivisionError
        return parse(item)

    monkeypatch.setattr(rig.channel, "parse", broken)
    await rig.say("trap")
    await rig.say("hello")
    await rig.work()
    assert await rig.item_states() == [InboxState.QUARANTINED, InboxState.DONE]


async def test_what_needs_no_answer_is_done_without_a_turn(database: Database) -> None:
    """A sticker ends as done; no turn, no row, no placeholder."""
    rig = await build_rig(database)
    rig.platform.push(b'{"id": 1, "chat": "chat", "from": "ann", "sticker": "x"}')
    await rig.receive()
    await rig.work()
    assert await rig.item_states() == [InboxState.DONE]
    assert await rig.rows() == ()
    assert rig.platform.transcript() == ()


async def test_stop_ends_the_running_answer(database: Database) -> None:
    """The text so far is the answer; the /stop itself needs no other one."""
    gate = Gate(tokens=4)
    rig = await build_rig(database, engine=ScriptedEngine("one two three four five", sleep=gate.sleep))
    await rig.say("count")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    await rig.say("/stop")
    await worker
    await rig.work()
    assert rig.platform.shown() == ("one two thre",)
    assert [turn.status for turn in await rig.turns()] == [TurnStatus.STOPPED]
    assert await rig.item_states() == [InboxState.DONE, InboxState.DONE]


async def test_stop_of_another_process_comes_with_the_heartbeat(database: Database) -> None:
    """A /stop that this process did not accept ends the answer at the next renewal of the lease."""
    gate = Gate(tokens=4)
    rig = await build_rig(
        database, engine=ScriptedEngine("one two three four five", sleep=gate.sleep), worker=WorkerConfig(0.0, lease_s=0.03)
    )
    await rig.say("count")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    other = await build_rig(database)
    other.platform.push(b"{}")  # number 1 is known already
    other.platform.say("/stop")
    await other.receive()
    await worker
    assert [turn.status for turn in await rig.turns()] == [TurnStatus.STOPPED]


async def test_stop_that_came_with_the_message_ends_it_before_it_begins(database: Database) -> None:
    """Nothing is generated for a message that was stopped before a worker saw it."""
    rig = await build_rig(database)
    await rig.say("count")
    await rig.say("/stop")
    await rig.work()
    assert rig.platform.shown() == ("Stopped.",)
    assert rig.engine.health().running == 0


async def test_stop_without_an_answer_says_so(database: Database, clock: ManualClock) -> None:
    """A late /stop is told that there is nothing to stop."""
    rig = await build_rig(database)
    await rig.say("hello")
    await rig.work()
    clock.advance(1000)
    await rig.say("/stop")
    await rig.work()
    assert "nothing to stop" in rig.platform.shown()[-1]


async def test_a_lost_lease_drops_the_turn_silently(database: Database, clock: ManualClock) -> None:
    """A worker that stalled writes nothing when another one has answered meanwhile."""
    gate = Gate(tokens=1)
    rig = await build_rig(database, engine=ScriptedEngine("old", sleep=gate.sleep))
    await rig.say("hello")
    stalled = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    clock.advance(31_000)
    quick = await build_rig(database)
    quick.platform.say("nobody reads this")
    assert await quick.pool.run_once()
    gate.open.set()
    await stalled
    assert [turn.reply_text for turn in await rig.turns()] == ["You said: hello"]
    assert await rig.row_states() == [OutboxState.SENT]
    assert b"kefu_claims_lost_total 1.0" in rig.metrics.scrape()


async def test_the_heartbeat_keeps_the_lease(database: Database, clock: ManualClock) -> None:
    """As long as the worker lives, nobody else gets the conversation."""
    gate = Gate(tokens=1)
    rig = await build_rig(database, engine=ScriptedEngine("slow", sleep=gate.sleep), worker=WorkerConfig(0.0, lease_s=0.03))
    await rig.say("hello")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    for _ in range(3):
        clock.advance(20_000)
        await _next_renewal(rig.database, clock)
    assert await database.write(lambda unit: unit.inbox.claim("thief")) is None
    gate.open.set()
    assert await worker
    assert rig.platform.shown() == ("slow",)


async def _next_renewal(database: Database, clock: ManualClock) -> None:
    """Wait until the lease reaches beyond the next step of the clock.

    Its end is read: trying to claim would also find nothing while a renewal that is under way holds the row.
    """

    async def reaches_beyond(unit: UnitOfWork) -> bool:
        connection = unit._context.connection
        later = await clock.now_ms(connection) + 20_000
        return bool(await connection.scalar(select(func.count()).where(conversations.c.lease_until > later)))

    async with asyncio.timeout(20):
        while not await database.read(reaches_beyond):  # noqa: ASYNC110 - a row is asked: there is no event to wait for
            await asyncio.sleep(0)


async def test_a_takeover_silences_the_running_answer(database: Database) -> None:
    """When a person takes the conversation, the answer that is being made is dropped; later messages are recorded, not answered."""
    gate = Gate(tokens=1)
    rig = await build_rig(database, engine=ScriptedEngine("bot speaks", sleep=gate.sleep), channel={"streaming": False})
    await rig.say("hello")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    conversation = await rig.conversation()
    await database.write(lambda unit: unit.conversations.take(conversation.id, "agent"))
    gate.open.set()
    await worker
    await rig.work()
    assert rig.platform.transcript() == ()
    assert [turn.status for turn in await rig.turns()] == [TurnStatus.UNANSWERED]


async def test_a_turn_that_fails_every_time_ends_with_an_apology(database: Database) -> None:
    """A defect costs the message its answer, never the conversation: it is retried, then the person is told."""
    rig = await build_rig(database, engine=ScriptedEngine(echo_user, faults=[EngineFault(EngineFaultKind.BUG, every=1)]))
    await rig.say("trap")
    assert await rig.work() == 3
    assert [item.attempts for item in await rig.items()] == [3]
    assert await rig.item_states() == [InboxState.DONE]
    assert len(rig.platform.shown()) == 1
    assert "cannot process" in rig.platform.shown()[0]
    await rig.say("/privacy")
    await rig.work()
    assert len(rig.platform.shown()) == 2


async def test_a_cancelled_worker_gives_the_claim_back(database: Database) -> None:
    """Stopping the program costs a message neither its answer nor an attempt."""
    gate = Gate(tokens=1)
    rig = await build_rig(database, engine=ScriptedEngine("never", sleep=gate.sleep))
    await rig.say("hello")
    worker = asyncio.create_task(rig.pool.run_once())
    await gate.reached.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert [(item.state, item.attempts) for item in await rig.items()] == [(InboxState.NEW, 0)]
    next_run = await build_rig(database)
    assert await next_run.work() == 1


async def test_a_second_run_reuses_the_placeholder(database: Database) -> None:
    """The placeholder of a run that ended in the middle becomes the answer of the next one."""
    gate = Gate(tokens=3)
    rig = await build_rig(database, engine=ScriptedEngine("first run, never finished", sleep=gate.sleep))
    await rig.say("hello")
    worker = asyncio.create_task(rig.pool.run_once())
    await seen(rig, lambda: any(message.text != PLACEHOLDER for message in rig.platform.transcript()))
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    gate.open.set()
    await rig.work()
    assert [message.text for message in rig.platform.transcript()] == ["first run, never finished"]


async def test_previews_that_fail_cost_nothing(database: Database) -> None:
    """The final text goes out although every preview was refused."""
    gate = Gate(tokens=1)
    rig = await build_rig(database, engine=ScriptedEngine(echo_user, sleep=gate.sleep, token_delay_s=1))
    rig.platform.script.append(Fault(FaultKind.UNREACHABLE))
    await rig.say("hello")
    worker = asyncio.create_task(rig.pool.run_once())
    await until(lambda: not rig.platform.script, 20)
    gate.open.set()
    await worker
    assert rig.platform.shown() == ("You said: hello",)


async def test_no_preview_overtakes_an_older_answer(database: Database, clock: ManualClock) -> None:
    """While an older answer waits for the platform, the next one shows nothing; both come in order."""
    rig = await build_rig(database, channel={"streaming": False})
    rig.platform.script.append(Fault(FaultKind.BUSY, after_s=60))
    await rig.say("one")
    await rig.work()
    rig.channel.capabilities = replace(rig.channel.capabilities, streaming=True)
    await rig.say("two")
    await rig.work()
    assert rig.platform.transcript() == ()
    clock.advance(60_000)
    await rig.delivery.sweep()
    assert rig.platform.shown() == ("You said: one", "You said: two")


async def test_the_worker_survives_what_a_turn_raises(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that met a lost claim or a defect goes on with the next conversation."""
    rig = await build_rig(database)
    await rig.say("one", chat="a")
    await rig.say("two", chat="b")
    drain, failures = rig.delivery.drain, [ClaimLost("gone"), UnparsableEvent("odd place")]

    async def failing(channel: Channel, conversation_id: str, *, newest: str | None = None) -> bool:
        if failures:
            raise failures.pop()
        return await drain(channel, conversation_id, newest=newest)

    monkeypatch.setattr(rig.delivery, "drain", failing)
    worker = asyncio.create_task(rig.pool.run())
    await seen(rig, lambda: rig.platform.shown("a") + rig.platform.shown("b") == ("You said: one", "You said: two"))
    rig.pool.close()
    await worker
