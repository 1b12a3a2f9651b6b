"""What is to be said is sent in order, never twice without care, and not at all once a person took over."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from storage.backend import Work
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.records import OutboxRecord, OutboxState, Owner
from storage.repositories.outbox import NEVER
from storage.unit_of_work import UnitOfWork
from tests.storage.world import answer, claim, ready_message, say


async def due(database: Database, channel: str | None = None) -> list[str]:
    """Return the ids of what may be sent now."""
    return [row.id for row in await database.read(lambda unit: unit.outbox.due(channel))]


async def start(database: Database, row: OutboxRecord) -> OutboxRecord:
    """Start sending, and insist that the conversation is still in the same hands."""
    started = await database.write(lambda unit: unit.outbox.start(row.id))
    assert started is not None
    return started


async def state(database: Database, row: OutboxRecord) -> OutboxState:
    """Return the state of the row now."""
    return (await database.read(lambda unit: unit.outbox.get(row.id))).state


async def test_a_message_is_sent_once(database: Database) -> None:
    """Ready → started → sent; then nothing is due and nothing can be started again."""
    row = await ready_message(database)
    assert await due(database) == [row.id]
    started = await start(database, row)
    assert (started.state, started.attempts) == (OutboxState.STARTED, 1)
    assert await due(database) == []
    await database.write(lambda unit: unit.outbox.sent(row.id))
    assert await due(database) == []
    with pytest.raises(ClaimLost):
        await start(database, row)


async def test_one_of_two_senders_starts(database: Database) -> None:
    """Two senders that saw the same row do not both send it."""
    row = await ready_message(database)
    results = await asyncio.gather(start(database, row), start(database, row), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ClaimLost", "OutboxRecord"]


async def test_the_oldest_message_of_a_conversation_goes_first(database: Database) -> None:
    """A later message waits until the earlier one is sent; other conversations go on."""
    first, second = await ready_message(database, "1"), await ready_message(database, "2")
    other = await ready_message(database, "3", chat="other")
    assert await due(database) == [first.id, other.id]
    await start(database, first)
    assert await due(database) == [other.id]
    await database.write(lambda unit: unit.outbox.sent(first.id))
    assert await due(database) == [second.id, other.id]


async def test_the_head_of_a_lane_is_known_before_its_time(database: Database, clock: ManualClock) -> None:
    """What has to go out next in a conversation is found, due or not, until nothing waits."""
    first, second = await ready_message(database, "1"), await ready_message(database, "2")
    await start(database, first)
    at = clock.now + 60_000
    await database.write(lambda unit: unit.outbox.retry(first.id, at, "429"))
    for expected in (first, second):
        head = await database.read(lambda unit: unit.outbox.head(first.conversation_id))
        assert head is not None
        assert head.id == expected.id
        await database.write(lambda unit, expected=expected: unit.outbox.failed(expected.id, "blocked"))
    assert await database.read(lambda unit: unit.outbox.head(first.conversation_id)) is None


async def test_a_retry_waits_and_keeps_its_place(database: Database, clock: ManualClock) -> None:
    """A message that was surely not sent becomes due again at its time, before later ones, with its chunks."""
    first, second = await ready_message(database, "1"), await ready_message(database, "2")
    await start(database, first)
    await database.write(lambda unit: unit.outbox.add_chunk(first.id, 0, "m1"))
    at = clock.now + 5000
    await database.write(lambda unit: unit.outbox.retry(first.id, at, "429"))
    assert await due(database) == []
    clock.advance(5000)
    assert await due(database) == [first.id]
    again = await start(database, first)
    assert (again.chunks, again.attempts, again.error) == (("m1",), 2, "429")
    assert await state(database, second) is OutboxState.READY


async def test_a_silent_sender_is_resumed_not_repeated(database: Database, clock: ManualClock) -> None:
    """A started row is never started again; past its deadline it is due for an idempotent call."""
    row = await ready_message(database)
    await start(database, row)
    assert await due(database) == []
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.resume(row.id))
    clock.advance(30_000)
    assert await due(database) == [row.id]
    with pytest.raises(ClaimLost):
        await start(database, row)
    resumed = await database.write(lambda unit: unit.outbox.resume(row.id))
    assert resumed is not None
    assert (resumed.state, resumed.attempts) == (OutboxState.STARTED, 2)
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.resume(row.id))


@pytest.mark.parametrize("what", ["chunk", "sent", "unknown", "failed", "retry"])
async def test_a_sender_that_overslept_writes_nothing_down(database: Database, clock: ManualClock, what: str) -> None:
    """Once another sender has resumed the row, the one before is refused whatever it wants to note; the other one is not."""
    row = await ready_message(database)
    await start(database, row)
    clock.advance(30_000)
    assert await database.write(lambda unit: unit.outbox.resume(row.id)) is not None
    notes: dict[str, Callable[[UnitOfWork, int], Awaitable[object]]] = {
        "chunk": lambda unit, attempt: unit.outbox.add_chunk(row.id, 0, f"m{attempt}", attempt=attempt),
        "sent": lambda unit, attempt: unit.outbox.sent(row.id, attempt=attempt),
        "unknown": lambda unit, attempt: unit.outbox.unknown(row.id, "no answer", attempt=attempt),
        "failed": lambda unit, attempt: unit.outbox.failed(row.id, "blocked", attempt=attempt),
        "retry": lambda unit, attempt: unit.outbox.retry(row.id, clock.now, "429", attempt=attempt),
    }
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: notes[what](unit, 1))
    kept = await database.read(lambda unit: unit.outbox.get(row.id))
    assert (kept.state, kept.chunks) == (OutboxState.STARTED, ())
    await database.write(lambda unit: notes[what](unit, 2))


async def test_a_chunk_extends_the_deadline(database: Database, clock: ManualClock) -> None:
    """A sender that gets parts across is not taken for dead; a part noted twice stands once."""
    row = await ready_message(database)
    await start(database, row)
    for index in range(4):
        clock.advance(20_000)
        assert await database.write(lambda unit, index=index: unit.outbox.add_chunk(row.id, index, f"m{index}"))
        assert await due(database) == []
    await database.write(lambda unit: unit.outbox.add_chunk(row.id, 3, "m3"))
    assert (await database.read(lambda unit: unit.outbox.get(row.id))).chunks == ("m0", "m1", "m2", "m3")


async def test_an_unknown_message_that_is_retried_keeps_its_place(database: Database, clock: ManualClock) -> None:
    """Unknown with a time: due again then, later messages wait."""
    first, _ = await ready_message(database, "1"), await ready_message(database, "2")
    await start(database, first)
    at = clock.now + 1000
    await database.write(lambda unit: unit.outbox.unknown(first.id, "no answer", retry_at=at))
    assert await due(database) == []
    clock.advance(1000)
    assert await due(database) == [first.id]
    assert await database.write(lambda unit: unit.outbox.resume(first.id)) is not None


async def test_an_unknown_message_without_a_time_holds_nothing_up(database: Database, clock: ManualClock) -> None:
    """Unknown for good: shown to operators, never due, later messages go on."""
    first, second = await ready_message(database, "1"), await ready_message(database, "2")
    await start(database, first)
    await database.write(lambda unit: unit.outbox.unknown(first.id, "no answer"))
    clock.advance(10**10)
    assert await due(database) == [second.id]
    shown = await database.read(lambda unit: unit.outbox.list(OutboxState.UNKNOWN))
    assert [(row.id, row.error, row.next_attempt_at) for row in shown] == [(first.id, "no answer", NEVER)]


async def test_a_refused_message_holds_nothing_up(database: Database) -> None:
    """Failed for good: later messages go on."""
    first, second = await ready_message(database, "1"), await ready_message(database, "2")
    await start(database, first)
    await database.write(lambda unit: unit.outbox.failed(first.id, "blocked by the user"))
    assert await due(database) == [second.id]
    assert await database.read(lambda unit: unit.outbox.counts()) == {OutboxState.FAILED: 1, OutboxState.READY: 1}


async def test_only_what_did_not_leave_can_be_cancelled(database: Database) -> None:
    """Reserved and ready may be cancelled, started may not."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.outbox.cancel(row.id, "operator"))
    assert await state(database, row) is OutboxState.CANCELLED
    second = await ready_message(database, "2")
    await start(database, second)
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.cancel(second.id))


async def test_a_message_has_one_way(database: Database) -> None:
    """Steps that the states do not allow are refused."""
    row = await ready_message(database)
    steps: tuple[Work[object], ...] = (
        lambda unit: unit.outbox.sent(row.id),
        lambda unit: unit.outbox.unknown(row.id, "x"),
        lambda unit: unit.outbox.retry(row.id, 0, "x"),
        lambda unit: unit.outbox.add_chunk(row.id, 0, "m"),
    )
    for step in steps:
        with pytest.raises(ClaimLost):
            await database.write(step)
    with pytest.raises(NotFound):
        await database.read(lambda unit: unit.outbox.get("gone"))
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.outbox.set_placeholder("gone", "p", turn_id="gone"))


async def test_a_channel_gets_only_its_messages(database: Database) -> None:
    """The sender of one channel never sees another one's rows."""
    row = await ready_message(database)
    assert await due(database, "telegram") == [row.id]
    assert await due(database, "terminal") == []


async def test_a_takeover_cancels_what_is_not_on_its_way(database: Database) -> None:
    """Reserved and ready rows are cancelled; with nothing in flight the silence is certain at once."""
    row = await ready_message(database)
    await say(database, "2")
    held = await claim(database)
    reserved = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    taken = await database.write(lambda unit: unit.conversations.take(held.conversation.id, "agent"))
    assert (taken.conversation.owner, taken.conversation.owner_epoch, taken.in_flight) == (Owner.HUMAN, 1, None)
    assert [await state(database, found) for found in (row, reserved)] == [OutboxState.CANCELLED] * 2
    with pytest.raises(ClaimLost):
        await answer(database, held)
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.inbox.renew(held))
    assert await due(database) == []


async def test_a_takeover_waits_for_the_message_on_its_way(database: Database) -> None:
    """A started row is reported; the sender ends after the part it is sending."""
    row = await ready_message(database)
    await start(database, row)
    taken = await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    assert taken.in_flight is not None
    assert taken.in_flight.id == row.id
    assert await database.write(lambda unit: unit.outbox.add_chunk(row.id, 0, "m1")) is False
    await database.write(lambda unit: unit.outbox.failed(row.id, "a person took over after the first part"))
    assert await database.read(lambda unit: unit.outbox.in_flight(row.conversation_id)) is None


async def test_a_dead_sender_is_not_resumed_after_a_takeover(database: Database, clock: ManualClock) -> None:
    """What is unknown stays unknown: the bot does not even edit once a person has the conversation."""
    row = await ready_message(database)
    await start(database, row)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    clock.advance(30_000)
    assert await database.write(lambda unit: unit.outbox.resume(row.id)) is None
    assert await state(database, row) is OutboxState.UNKNOWN
    assert await due(database) == []


async def test_an_unknown_message_is_left_alone_after_a_takeover(database: Database) -> None:
    """A row that would have been resolved is parked by the takeover."""
    row = await ready_message(database)
    await start(database, row)
    await database.write(lambda unit: unit.outbox.unknown(row.id, "no answer", retry_at=0))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    assert await due(database) == []


async def test_a_person_speaks_through_the_outbox(database: Database) -> None:
    """What a person says is sent like a reply, before and after the conversation goes back."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    said = await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, "let me see", owner_epoch=1))
    given = await database.write(lambda unit: unit.conversations.release(row.conversation_id, "agent"))
    assert (given.owner, given.owner_epoch) == (Owner.BOT, 2)
    assert await due(database) == [said.id]
    assert (await start(database, said)).turn_id is None
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, "too late", owner_epoch=1))


async def test_giving_back_what_the_bot_has_changes_nothing(database: Database) -> None:
    """Releasing a conversation of the bot does not strand its ready messages (found by the state machine)."""
    row = await ready_message(database)
    given = await database.write(lambda unit: unit.conversations.release(row.conversation_id, "agent"))
    assert (given.owner, given.owner_epoch) == (Owner.BOT, 0)
    await start(database, row)


async def test_a_refused_message_is_not_tried_again_after_a_takeover(database: Database) -> None:
    """A 429 that comes back after the takeover ends the bot's message instead of blocking the lane."""
    row = await ready_message(database)
    await start(database, row)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    said = await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, "hello", owner_epoch=1))
    await database.write(lambda unit: unit.outbox.retry(row.id, 0, "429"))
    assert await state(database, row) is OutboxState.CANCELLED
    assert await due(database) == [said.id]


async def test_a_second_person_takes_over_without_losing_words(database: Database) -> None:
    """When an agent takes over from another one, what was said stays queued."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "first"))
    said = await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, "hello", owner_epoch=1))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "second"))
    assert await due(database) == [said.id]
    await start(database, said)


async def test_takeover_and_start_never_both_win(database: Database) -> None:
    """Whatever the race, the row is either cancelled or reported as in flight."""
    for number in range(10):
        row = await ready_message(database, str(number), chat=f"chat{number}")
        started, taken = await asyncio.gather(
            start(database, row),
            database.write(lambda unit, row=row: unit.conversations.take(row.conversation_id, "agent")),
            return_exceptions=True,
        )
        assert not isinstance(taken, BaseException)
        if isinstance(started, ClaimLost):
            assert (taken.in_flight, await state(database, row)) == (None, OutboxState.CANCELLED)
        else:
            assert taken.in_flight is not None


async def test_takeover_and_commit_never_both_win(database: Database) -> None:
    """Whatever the race, no reply of the bot is ready once the takeover is confirmed."""
    for number in range(10):
        await say(database, str(number), chat=f"chat{number}")
        held = await claim(database)

        async def take(unit: UnitOfWork, conversation_id: str = held.conversation.id) -> None:
            await unit.conversations.take(conversation_id, "agent")

        await asyncio.gather(answer(database, held), database.write(take), return_exceptions=True)
    rows = await database.read(lambda unit: unit.outbox.list())
    assert {row.state for row in rows} <= {OutboxState.CANCELLED}
