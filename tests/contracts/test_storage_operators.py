"""What operators see of the outbox, and what they may do: orphans, another try, the end of a message."""

import pytest

from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.models import outbox
from storage.records import OutboxRecord, OutboxState
from tests.storage.world import answer, claim, ready_message, say


async def now(database: Database, row: OutboxRecord) -> OutboxRecord:
    """Return the row as it is now."""
    return await database.read(lambda unit: unit.outbox.get(row.id))


async def failed(database: Database) -> OutboxRecord:
    """Bring a message to `failed`."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.outbox.start(row.id))
    await database.write(lambda unit: unit.outbox.failed(row.id, "blocked"))
    return row


async def unknown(database: Database, event_id: str = "1") -> OutboxRecord:
    """Bring a message to `unknown`, for good."""
    row = await ready_message(database, event_id)
    await database.write(lambda unit: unit.outbox.start(row.id))
    await database.write(lambda unit: unit.outbox.unknown(row.id, "no answer"))
    return row


async def test_extras_go_with_the_message(database: Database) -> None:
    """What a channel adds to a text comes back byte for byte, of a turn and of a person, reserved before or not."""
    extras = '{"buttons": ["\U0001f44d", "\U0001f44e"]}'
    await say(database, "1")
    held = await claim(database)
    await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    _, reserved = await answer(database, held, extras=extras)
    await database.write(lambda unit: unit.inbox.release(held))
    await say(database, "2")
    _, fresh = await answer(database, await claim(database), extras=extras)
    said = await database.write(lambda unit: unit.outbox.enqueue(held.conversation.id, "hello", owner_epoch=0, extras=extras))
    assert [row.extras for row in (reserved, fresh, said) if row is not None] == [extras] * 3


async def test_a_placeholder_of_a_dead_run_counts_as_an_orphan(database: Database, clock: ManualClock) -> None:
    """Reserved without a noted placeholder and taken over: one may stand on the screen for ever, once for each such run."""
    await say(database, "1")
    for worker in ("first", "second", "third"):
        held = await claim(database, worker)
        row = await database.write(lambda unit, held=held: unit.outbox.reserve(held, new_id(), ""))
        clock.advance(30_000)
    assert row.orphans == 2
    _, committed = await answer(database, held)
    assert committed is not None
    assert (committed.id, committed.orphans) == (row.id, 3)


async def test_a_noted_placeholder_is_no_orphan(database: Database) -> None:
    """A placeholder whose id is known gets its text."""
    await say(database, "1")
    held = await claim(database)
    row = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    await database.write(lambda unit: unit.outbox.set_placeholder(row.id, "p", turn_id=row.turn_id or ""))
    again = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    _, committed = await answer(database, held)
    assert committed is not None
    assert (again.orphans, committed.orphans) == (0, 0)


async def orphaned(database: Database) -> list[tuple[str, int]]:
    """Return which rows own up to how many orphans."""
    return [(row.id, row.orphans) for row in await database.read(lambda unit: unit.outbox.list(orphaned=True))]


@pytest.mark.parametrize("ref", ["", "p"])
async def test_a_takeover_leaves_a_reserved_placeholder_behind(database: Database, ref: str) -> None:
    """Its id noted, or perhaps just being sent: either way it never gets a text, and is listed, once."""
    await say(database, "1")
    held = await claim(database)
    row = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    await database.write(lambda unit: unit.outbox.set_placeholder(row.id, ref, turn_id=row.turn_id or ""))
    for actor in ("agent", "second"):
        await database.write(lambda unit, by=actor: unit.conversations.take(held.conversation.id, by))
    assert await orphaned(database) == [(row.id, 1)]


@pytest.mark.parametrize("placeholder", ["none", "of the previews", "of the delivery"])
async def test_a_takeover_leaves_the_placeholder_of_a_ready_message_behind(database: Database, placeholder: str) -> None:
    """A message of which nothing was shown leaves nothing behind; one whose placeholder waits for its text is listed."""
    row = await ready_message(database)
    if placeholder == "of the previews":
        await database.write(lambda unit: unit.outbox.set_placeholder(row.id, "p", turn_id=row.turn_id or ""))
    if placeholder == "of the delivery":
        await database.write(lambda unit: unit.outbox.start(row.id))
        await database.write(lambda unit: unit.outbox.add_chunk(row.id, 0, "p"))
        await database.write(lambda unit: unit.outbox.retry(row.id, 0, "429"))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    assert await orphaned(database) == ([] if placeholder == "none" else [(row.id, 1)])


@pytest.mark.parametrize("ending", ["nothing is said", "dropped"])
async def test_an_answer_that_is_not_given_leaves_its_placeholder_behind(database: Database, ending: str) -> None:
    """Nothing is to be said after all, or an operator dropped it: the placeholder, whose id is known, is listed."""
    await say(database, "1")
    held = await claim(database)
    row = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    await database.write(lambda unit: unit.outbox.set_placeholder(row.id, "p", turn_id=row.turn_id or ""))
    if ending == "dropped":
        await database.write(lambda unit: unit.outbox.drop(row.id))
    else:
        await answer(database, held, reply=None)
    assert (await now(database, row)).state is OutboxState.CANCELLED
    assert await orphaned(database) == [(row.id, 1)]


@pytest.mark.parametrize("is_shown", [True, False])
async def test_a_refused_message_of_former_hands_leaves_its_placeholder_behind(database: Database, is_shown: bool) -> None:
    """It was on its way when a person took over, was surely not accepted, and is not tried again: what stands there is listed."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.outbox.start(row.id))
    if is_shown:
        await database.write(lambda unit: unit.outbox.add_chunk(row.id, 0, "p"))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    await database.write(lambda unit: unit.outbox.retry(row.id, 0, "429"))
    assert (await now(database, row)).state is OutboxState.CANCELLED
    assert await orphaned(database) == ([(row.id, 1)] if is_shown else [])


async def test_orphans_are_counted_and_listed(database: Database) -> None:
    """Operators see how many there are and the rows that may have left them."""
    first, _, third = [await ready_message(database, event_id) for event_id in ("1", "2", "3")]
    assert await database.read(lambda unit: unit.outbox.orphans()) == 0
    for row in (first, third, third):
        await database.write(lambda unit, row=row: unit.outbox.add_orphan(row.id))
    assert await database.read(lambda unit: unit.outbox.orphans()) == 3
    listed = await database.read(lambda unit: unit.outbox.list(orphaned=True))
    assert [(row.id, row.orphans) for row in listed] == [(third.id, 2), (first.id, 1)]
    assert await database.read(lambda unit: unit.outbox.list(OutboxState.SENT, orphaned=True)) == ()
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.outbox.add_orphan("gone"))


async def test_what_failed_is_tried_again(database: Database, clock: ManualClock) -> None:
    """Failed → ready, due at once, as somebody who unblocked the bot expects."""
    row = await failed(database)
    clock.advance(1000)
    again = await database.write(lambda unit: unit.outbox.retry_by_operator(row.id))
    assert (again.state, again.next_attempt_at) == (OutboxState.READY, clock.now)
    assert await database.write(lambda unit: unit.outbox.start(row.id)) is not None


async def test_what_is_unknown_stays_unknown_and_is_due(database: Database) -> None:
    """Only `resume` may take it, because it may be on the screen."""
    row = await unknown(database)
    assert await database.read(lambda unit: unit.outbox.due()) == ()
    again = await database.write(lambda unit: unit.outbox.retry_by_operator(row.id))
    assert again.state is OutboxState.UNKNOWN
    assert [found.id for found in await database.read(lambda unit: unit.outbox.due())] == [row.id]
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.start(row.id))
    assert await database.write(lambda unit: unit.outbox.resume(row.id)) is not None


async def test_an_operator_cannot_let_the_bot_speak_over_a_person(database: Database) -> None:
    """The bot's message waits until the conversation is the bot's again; then it has the epoch of that time."""
    row = await failed(database)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    with pytest.raises(ClaimLost, match="person"):
        await database.write(lambda unit: unit.outbox.retry_by_operator(row.id))
    await database.write(lambda unit: unit.conversations.release(row.conversation_id, "agent"))
    assert (await database.write(lambda unit: unit.outbox.retry_by_operator(row.id))).owner_epoch == 2
    assert await database.write(lambda unit: unit.outbox.start(row.id)) is not None


async def test_the_words_of_a_person_are_tried_again_whoever_has_the_conversation(database: Database) -> None:
    """What was said through the desk is no word of the bot."""
    row = await ready_message(database)
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "agent"))
    said = await database.write(lambda unit: unit.outbox.enqueue(row.conversation_id, "hello", owner_epoch=1))
    await database.write(lambda unit: unit.outbox.failed(said.id, "blocked"))
    await database.write(lambda unit: unit.conversations.take(row.conversation_id, "second"))
    await database.write(lambda unit: unit.outbox.retry_by_operator(said.id))
    assert await database.write(lambda unit: unit.outbox.start(said.id)) is not None


async def test_what_is_on_its_way_is_left_alone(database: Database) -> None:
    """Started and sent messages can neither be tried again nor dropped, and the sentence says what they are."""
    row = await ready_message(database)
    with pytest.raises(ClaimLost, match="ready"):
        await database.write(lambda unit: unit.outbox.retry_by_operator(row.id))
    await database.write(lambda unit: unit.outbox.start(row.id))
    for state in ("started", "sent"):
        for step in ("retry_by_operator", "drop"):
            with pytest.raises(ClaimLost, match=state):
                await database.write(lambda unit, step=step: getattr(unit.outbox, step)(row.id))
        if state == "started":
            await database.write(lambda unit: unit.outbox.sent(row.id))
    for step in ("retry_by_operator", "drop"):
        with pytest.raises(NotFound):
            await database.write(lambda unit, step=step: getattr(unit.outbox, step)("gone"))


async def test_what_is_dropped_holds_nothing_up(database: Database) -> None:
    """Ready, unknown and failed messages end as cancelled; the next one goes out."""
    dropped = [await unknown(database, "1"), await ready_message(database, "2")]
    later = await ready_message(database, "3")
    for row in dropped:
        assert (await database.write(lambda unit, row=row: unit.outbox.drop(row.id))).state is OutboxState.CANCELLED
    assert [row.id for row in await database.read(lambda unit: unit.outbox.due())] == [later.id]


async def test_dropping_a_reserved_row_does_not_lose_the_answer(database: Database) -> None:
    """The turn that it was reserved for is still committed, and its reply goes out in the same row."""
    await say(database, "1")
    held, turn_id = await claim(database), new_id()
    row = await database.write(lambda unit: unit.outbox.reserve(held, turn_id, ""))
    await database.write(lambda unit: unit.outbox.drop(row.id))
    assert (await database.write(lambda unit: unit.outbox.reserve(held, turn_id, ""))).state is OutboxState.RESERVED
    await database.write(lambda unit: unit.outbox.drop(row.id))
    _, committed = await answer(database, held, id=turn_id)
    assert committed is not None
    assert (committed.id, committed.state, committed.text) == (row.id, OutboxState.READY, "re 1")


async def test_a_ready_row_of_former_hands_is_cancelled_by_its_start(database: Database) -> None:
    """A retry and a takeover that meet can leave a ready row with an old epoch; it ended in a refusal for ever (found by review)."""
    row = await ready_message(database)
    left_over = outbox.update().where(outbox.c.id == row.id).values(owner_epoch=-1)
    await database.write(lambda unit: unit._context.connection.execute(left_over))
    assert await database.write(lambda unit: unit.outbox.start(row.id)) is None
    assert (await now(database, row)).state is OutboxState.CANCELLED
    assert await database.read(lambda unit: unit.outbox.due()) == ()
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.start(row.id))
