"""Effectively once and in order, whatever the platform does, and honest about what is not known."""

import asyncio
import random
from dataclasses import replace

import pytest

from bot import delivery
from bot.channels.base import OutgoingReply, Progress
from bot.channels.fake_platform import PLACEHOLDER, Fault, FaultKind
from bot.delivery import backoff_s
from bot.handoff_desk import Desk, NothingRuns
from storage.clock import ManualClock
from storage.database import Database
from storage.records import OutboxState
from tests.bot.rig import Rig, build_rig, seen
from tests.conftest import OpenDatabase
from tests.sizes import record_proof, size
from tests.storage.world import answer, claim
from tests.waiting import until

LOST, LATE, UNREACHABLE, REFUSED = (Fault(kind) for kind in (FaultKind.LOST, FaultKind.LATE, FaultKind.UNREACHABLE, FaultKind.REFUSED))
PLAIN = {"editing": False}
EDITING = {"editing": True, "streaming": False}


async def _answer(rig: Rig, *faults: Fault | None, text: str = "hello", chat: str = "chat") -> None:
    """One message is answered while the platform does what `faults` say."""
    rig.platform.script.extend(faults)
    await rig.say(text, chat=chat)
    await rig.work()


async def _sweep_until_done(rig: Rig, clock: ManualClock, rounds: int = 30) -> None:
    for _ in range(rounds):
        clock.advance(301_000)
        rig.platform.settle()
        await rig.delivery.sweep()


@pytest.mark.parametrize("fault", [UNREACHABLE, Fault(FaultKind.BUSY, after_s=30)])
@pytest.mark.parametrize("channel", [PLAIN, EDITING])
async def test_what_was_surely_not_accepted_is_tried_again(
    database: Database, clock: ManualClock, fault: Fault, channel: dict[str, bool]
) -> None:
    """After a refusal that passes the answer arrives, once."""
    rig = await build_rig(database, channel=channel)
    await _answer(rig, fault)
    assert await rig.row_states() == [OutboxState.READY]
    await _sweep_until_done(rig, clock, 1)
    assert rig.platform.shown() == ("You said: hello",)
    assert await rig.row_states() == [OutboxState.SENT]


async def test_the_platform_s_own_waiting_time_is_kept(database: Database, clock: ManualClock) -> None:
    """No call is made before `retry_after` has passed, and other conversations do not wait for it."""
    rig = await build_rig(database, channel=PLAIN)
    await _answer(rig, Fault(FaultKind.BUSY, after_s=600), chat="a")
    await _answer(rig, chat="b")
    assert rig.platform.shown("b") == ("You said: hello",)
    clock.advance(599_000)
    await rig.delivery.sweep()
    assert rig.platform.shown("a") == ()
    clock.advance(1_000)
    await rig.delivery.sweep()
    assert rig.platform.shown("a") == ("You said: hello",)


@pytest.mark.parametrize("fault", [LOST, LATE])
async def test_without_an_idempotent_way_the_unknown_stays_visible(database: Database, clock: ManualClock, fault: Fault) -> None:
    """A plain send whose response is lost is never repeated: it shows at most once, and the operator sees the row."""
    rig = await build_rig(database, channel=PLAIN)
    await _answer(rig, fault)
    await _answer(rig, text="next")
    await _sweep_until_done(rig, clock)
    assert await rig.row_states() == [OutboxState.UNKNOWN, OutboxState.SENT]
    assert (await rig.rows())[0].error
    assert rig.platform.shown().count("You said: hello") == 1


@pytest.mark.parametrize("faults", [(LOST,), (None, LOST), (LATE,), (None, LATE), (LOST, LOST, LOST), (None, LOST, LATE, UNREACHABLE)])
async def test_an_idempotent_edit_resolves_the_unknown(database: Database, clock: ManualClock, faults: tuple[Fault | None, ...]) -> None:
    """Where the channel edits its own message, a lost response costs at most a placeholder without words."""
    rig = await build_rig(database, channel=EDITING)
    await _answer(rig, *faults)
    await _sweep_until_done(rig, clock)
    assert rig.platform.shown() == ("You said: hello",)
    assert await rig.row_states() == [OutboxState.SENT]


async def test_a_repeated_edit_waits_until_the_old_one_cannot_come_any_more(database: Database, clock: ManualClock) -> None:
    """The time that a lost request may still take effect passes before the attempt is repeated."""
    rig = await build_rig(database, channel={**EDITING, "settle_s": 100.0})
    await _answer(rig, None, LATE)
    clock.advance(99_000)
    await rig.delivery.sweep()
    assert [message.text for message in rig.platform.transcript()] == [PLACEHOLDER]
    clock.advance(2_000)
    await rig.delivery.sweep()
    assert rig.platform.shown() == ("You said: hello",)


async def test_a_refusal_for_good_ends_the_row(database: Database, clock: ManualClock) -> None:
    """Whoever blocked the bot is not tried again; the row says why."""
    rig = await build_rig(database, channel=PLAIN)
    await _answer(rig, REFUSED)
    await _sweep_until_done(rig, clock)
    assert await rig.row_states() == [OutboxState.FAILED]
    assert rig.platform.shown() == ()


async def test_order_holds_while_the_first_answer_waits(database: Database, clock: ManualClock) -> None:
    """What comes after a postponed answer waits behind it."""
    rig = await build_rig(database, channel=PLAIN)
    await _answer(rig, UNREACHABLE, text="one")
    await _answer(rig, text="two")
    assert rig.platform.shown() == ()
    await _sweep_until_done(rig, clock, 1)
    assert rig.platform.shown() == ("You said: one", "You said: two")


@pytest.mark.parametrize("channel", [PLAIN, EDITING])
async def test_a_long_answer_continues_after_its_last_recorded_part(
    database: Database, clock: ManualClock, channel: dict[str, bool]
) -> None:
    """An interruption between two parts repeats none of them and loses none."""
    rig = await build_rig(database, channel={**channel, "max_text": 10})
    await _answer(rig, None, None, UNREACHABLE, text="0123456789 0123456789")
    await _sweep_until_done(rig, clock)
    assert "".join(rig.platform.shown()) == "You said: 0123456789 0123456789"


@pytest.mark.parametrize(("channel", "state"), [(EDITING, OutboxState.SENT), (PLAIN, OutboxState.UNKNOWN)])
async def test_a_row_of_a_dead_process_is_resolved(
    database: Database, clock: ManualClock, channel: dict[str, bool], state: OutboxState
) -> None:
    """`started` without news past its deadline is edited again where that is safe, and left to the operator elsewhere."""
    rig = await build_rig(database, channel=channel)
    await _answer(rig, UNREACHABLE)
    row = (await rig.rows())[0]
    await database.write(lambda unit: unit.outbox.start(row.id, timeout_ms=30_000))
    await rig.delivery.sweep()
    assert await rig.row_states() == [OutboxState.STARTED]
    await _sweep_until_done(rig, clock, 1)
    assert await rig.row_states() == [state]


async def test_a_fresh_row_is_left_to_its_worker(database: Database, clock: ManualClock) -> None:
    """The sweep of another process does not race with the worker that has just committed the answer."""
    rig = await build_rig(database, channel=PLAIN)
    await rig.say("hello")
    await answer(database, await claim(database), reply="of a worker")
    await rig.delivery.sweep()
    assert rig.platform.shown() == ()
    clock.advance(delivery.SWEEP_GRACE_MS)
    await rig.delivery.sweep()
    assert rig.platform.shown() == ("of a worker",)


async def test_words_of_the_desk_go_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker has what a person said: the sweep takes it as fresh as it is, as soon as it is told."""
    monkeypatch.setattr(delivery, "SWEEP_S", 3600.0)
    rig = await build_rig(database, channel=PLAIN)
    await rig.say("hello")
    conversation = await rig.conversation()
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.delivery.run())
        await asyncio.sleep(0)
        desk = Desk(database, NothingRuns(), preview_s=0.0, on_queued=rig.delivery.ring)
        await desk.take(conversation.id, "ada")
        await desk.say(conversation.id, "from the desk", "ada", wait=False)
        await seen(rig, lambda: rig.platform.shown() == ("from the desk",))
        rig.delivery.close()


async def test_two_processes_deliver_a_row_once(database: Database, clock: ManualClock) -> None:
    """Two sweeps at the same time: the fence lets one of them through."""
    rig = await build_rig(database, channel=PLAIN)
    await _answer(rig, UNREACHABLE)
    twin = await build_rig(database, channel=PLAIN)
    twin.delivery._channels = rig.delivery._channels
    clock.advance(301_000)
    await asyncio.gather(rig.delivery.sweep(), twin.delivery.sweep())
    assert rig.platform.shown() == ("You said: hello",)


async def test_a_sender_that_overslept_fills_no_second_message(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two senders have each sent a placeholder that is not noted yet: only the one that has the row now gives its own the text."""
    rig = await build_rig(database, channel=EDITING)
    await rig.say("hello")
    twin = await build_rig(database, channel=EDITING)
    twin.delivery._channels = rig.delivery._channels
    send, gates = rig.platform.send, [asyncio.Event(), asyncio.Event()]
    waiting = list(gates)

    async def held(chat: str, text: str, reply_to: str = "") -> str:
        ref = await send(chat, text, reply_to)
        await waiting.pop(0).wait()
        return ref

    monkeypatch.setattr(rig.platform, "send", held)
    overslept = asyncio.create_task(rig.work())
    await until(lambda: len(waiting) == 1)
    clock.advance(301_000)
    resumed = asyncio.create_task(twin.delivery.sweep())
    await until(lambda: not waiting)
    gates[0].set()
    await overslept
    gates[1].set()
    await resumed
    assert rig.platform.shown() == ("You said: hello",)
    assert [(row.state, row.orphans) for row in await rig.rows()] == [(OutboxState.SENT, 1)]


async def test_a_channel_with_a_defect_is_unknown_not_fatal(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no channel should raise leaves a visible row, and the next answer goes out."""
    rig = await build_rig(database, channel=PLAIN)
    deliver = rig.channel.deliver

    async def broken(reply: OutgoingReply, progress: Progress) -> None:
        if "trap" in reply.row.text:
            raise ZeroDivisionError
        await deliver(reply, progress)

    monkeypatch.setattr(rig.channel, "deliver", broken)
    await _answer(rig, text="trap")
    await _answer(rig)
    assert await rig.row_states() == [OutboxState.UNKNOWN, OutboxState.SENT]


async def test_a_delivery_without_progress_becomes_unknown(database: Database) -> None:
    """A platform that never answers holds its conversation for the time-out, not for ever."""
    rig = await build_rig(database, channel={**PLAIN, "timeout_s": 0.01})
    await _answer(rig, Fault(FaultKind.SLOW))
    assert await rig.row_states() == [OutboxState.UNKNOWN]


async def test_a_takeover_in_the_middle_of_an_answer_stops_it(database: Database) -> None:
    """After the part that is being sent, nothing more goes out; the row stays visible."""
    rig = await build_rig(database, channel={**PLAIN, "max_text": 10})
    rig.platform.script.extend([None, Fault(FaultKind.SLOW)])
    await rig.say("0123456789 0123456789 0123456789")
    worker = asyncio.create_task(rig.pool.run_once())
    await seen(rig, lambda: rig.platform.held == 1)
    conversation = await rig.conversation()
    taken = await database.write(lambda unit: unit.conversations.take(conversation.id, "agent"))
    assert taken.in_flight is not None
    rig.platform.gate.set()
    await worker
    assert len(rig.platform.transcript()) == 2
    assert await rig.row_states() == [OutboxState.UNKNOWN]


async def test_the_sweep_loop_ends_when_it_is_closed(database: Database) -> None:
    """`close` lets `run` return without being cancelled."""
    rig = await build_rig(database)
    sweep = asyncio.create_task(rig.delivery.run())
    rig.delivery.close()
    async with asyncio.timeout(10):
        await sweep


def test_the_backoff_grows_to_a_limit() -> None:
    """Later attempts wait longer, never longer than the limit, and never at the same moment."""
    waits = [[backoff_s(attempt) for _ in range(20)] for attempt in range(1, 30)]
    assert max(waits[0]) <= delivery.RETRY_FIRST_S
    assert max(max(row) for row in waits) <= delivery.RETRY_MAX_S
    assert min(waits[-1]) >= delivery.RETRY_MAX_S / 2
    assert len(set(waits[5])) > 1


async def _storm(database: Database, clock: ManualClock, *, messages: int, seed: int) -> tuple[int, int]:
    """Answer `messages` on a platform that misbehaves at random; return how many were lost and how many were shown twice."""
    chance = random.Random(seed)
    kinds = {FaultKind.LOST: 0.05, FaultKind.LATE: 0.02, FaultKind.UNREACHABLE: 0.05, FaultKind.BUSY: 0.02}

    def fault(_operation: str, _chat: str) -> Fault | None:
        return next((Fault(kind) for kind, share in kinds.items() if chance.random() < share), None)

    rig = await build_rig(database, channel=EDITING)
    rig.platform.faults = fault
    for number in range(messages):
        await rig.say(f"message {number}.", chat=f"chat {number % 8}")
        await rig.work()
    rig.platform.faults = lambda _operation, _chat: None
    await _sweep_until_done(rig, clock)
    expected = {f"chat {chat}": [f"You said: message {number}." for number in range(chat, messages, 8)] for chat in range(8)}
    shown = {chat: [text for text in rig.platform.shown(chat) if text != PLACEHOLDER] for chat in expected}
    lost = sum(len(set(expected[chat]) - set(shown[chat])) for chat in expected)
    twice = sum(len(shown[chat]) - len(set(shown[chat])) for chat in expected)
    assert lost or twice or shown == expected, "out of order"
    return lost, twice


async def test_a_storm_of_faults_loses_nothing_and_repeats_nothing(clock: ManualClock, open_temporary: OpenDatabase, dialect: str) -> None:
    """Lost responses, late accepts, broken connections and rate limits: each answer is on the screen exactly once, in order."""
    messages, seed = size("delivery_storm", small=60, proof=2000), 7
    async with open_temporary(clock) as database:
        lost, twice = await _storm(database, clock, messages=messages, seed=seed)
    record_proof(f"delivery under a storm of faults, {dialect}", seed=seed, size=messages, result=f"{lost} lost, {twice} answered twice")
    assert (lost, twice) == (0, 0)


async def test_a_blind_resend_is_caught(database: Database, clock: ManualClock) -> None:
    """A channel that claims that its plain sends may be repeated is seen to answer twice: the proof above can fail."""
    rig = await build_rig(database, channel=PLAIN)
    rig.channel.capabilities = replace(rig.channel.capabilities, resend_is_safe=True)
    await _answer(rig, LOST)
    await _sweep_until_done(rig, clock, 3)
    assert rig.platform.shown().count("You said: hello") > 1
