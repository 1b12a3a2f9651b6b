"""A turn, its reply and its answered items become durable together, once, and only for the newest claim."""

import pytest

from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.records import Claim, InboxState, OutboxRecord, OutboxState, Owner, TurnRecord, TurnStatus
from storage.unit_of_work import UnitOfWork
from tests.storage.world import answer, claim, say, turn, user

_DAY_MS = 86_400_000


async def test_a_commit_answers_its_items(database: Database) -> None:
    """After the commit the items are done and name their turn, and the reply is ready to be sent."""
    await say(database, "1", "2")
    held = await claim(database)
    made, row = await answer(database, held)
    assert (made.seq, made.status, made.reply_text) == (1, TurnStatus.ANSWERED, "re 1 2")
    assert row is not None
    assert (row.state, row.text, row.turn_id) == (OutboxState.READY, "re 1 2", made.id)
    items = await database.read(lambda unit: unit.inbox.list(InboxState.DONE))
    assert {found.turn_id for found in items} == {made.id}
    assert (await database.read(lambda unit: unit.conversations.get(made.conversation_id))).turns == 1


async def test_the_same_turn_twice_is_one_turn(database: Database) -> None:
    """Committing a turn id again, even from a claim that was lost, returns what is stored and writes nothing."""
    await say(database, "1")
    held = await claim(database)

    async def commit(unit: UnitOfWork, turn_id: str = new_id()) -> tuple[TurnRecord, OutboxRecord | None]:
        again = turn(held, await user(unit), id=turn_id)
        return await unit.turns.commit(held, again, reply="hello", owner_epoch=0)

    first = await database.write(commit)
    await database.write(lambda unit: unit.inbox.release(held))
    assert await database.write(commit) == first
    assert (await database.read(lambda unit: unit.conversations.get(first[0].conversation_id))).turns == 1
    assert len(await database.read(lambda unit: unit.outbox.list())) == 1


async def test_a_second_turn_for_answered_items_is_refused(database: Database) -> None:
    """Items that have their turn cannot get another one."""
    await say(database, "1")
    held = await claim(database)
    await answer(database, held)
    with pytest.raises(ClaimLost):
        await answer(database, held)
    assert len(await database.read(lambda unit: unit.outbox.list())) == 1


async def test_a_lost_claim_writes_nothing(database: Database, clock: ManualClock) -> None:
    """A fenced worker leaves no turn, no reply and no answered item."""
    await say(database, "1")
    old = await claim(database)
    clock.advance(30_000)
    await claim(database, "new")
    with pytest.raises(ClaimLost):
        await answer(database, old)
    assert await database.read(lambda unit: unit.turns.list(old.conversation.id)) == ()
    assert await database.read(lambda unit: unit.outbox.list()) == ()
    assert await database.read(lambda unit: unit.inbox.pending()) == 1


async def test_a_released_claim_writes_nothing(database: Database) -> None:
    """Who gave the conversation back has no right to it any more, though nobody else has claimed it."""
    await say(database, "1")
    held = await claim(database)
    await database.write(lambda unit: unit.inbox.release(held))
    with pytest.raises(ClaimLost):
        await answer(database, held)


async def test_an_overdue_worker_that_nobody_replaced_may_commit(database: Database, clock: ManualClock) -> None:
    """The fence is the epoch, never age alone."""
    await say(database, "1")
    held = await claim(database)
    clock.advance(10 * 30_000)
    await answer(database, held)


async def test_an_effect_shares_the_transaction(database: Database) -> None:
    """What a command changes is undone when its turn cannot be committed."""
    await say(database, "1")
    held = await claim(database)
    await database.write(lambda unit: unit.inbox.release(held))
    user_id = await database.write(user)

    async def remember_and_commit(unit: UnitOfWork) -> None:
        await unit.users.add_note(user_id, "likes tea")
        await unit.turns.commit(held, turn(held, user_id), reply="noted", owner_epoch=0)

    with pytest.raises(ClaimLost):
        await database.write(remember_and_commit)
    assert (await database.read(lambda unit: unit.users.profile(user_id))).notes == ()


async def test_a_reserved_row_is_used_by_the_commit(database: Database) -> None:
    """The reply goes out in the message whose placeholder is already on the screen."""
    await say(database, "1")
    held = await claim(database)
    reserved = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), "m1"))
    await database.write(lambda unit: unit.outbox.set_placeholder(reserved.id, "p1", turn_id=reserved.turn_id or ""))
    _, row = await answer(database, held)
    assert row is not None
    assert (row.id, row.placeholder_ref, row.reply_to, row.state) == (reserved.id, "p1", "m1", OutboxState.READY)


async def test_a_second_run_reuses_the_placeholder(database: Database, clock: ManualClock) -> None:
    """What a dead worker reserved belongs to the next one, placeholder included: one message, not two."""
    await say(database, "1")
    dead = await claim(database)
    reserved = await database.write(lambda unit: unit.outbox.reserve(dead, new_id(), "m1"))
    await database.write(lambda unit: unit.outbox.set_placeholder(reserved.id, "p1", turn_id=reserved.turn_id or ""))
    clock.advance(30_000)
    held, turn_id = await claim(database, "new"), new_id()
    again = await database.write(lambda unit: unit.outbox.reserve(held, turn_id, "m1"))
    assert (again.id, again.placeholder_ref, again.turn_id) == (reserved.id, "p1", turn_id)
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.reserve(dead, new_id(), "m1"))


async def test_a_worker_that_overslept_does_not_swap_the_placeholder(database: Database, clock: ManualClock) -> None:
    """The first worker sent a placeholder and slept; the answer goes into that of the worker that has the row now."""
    await say(database, "1")
    asleep = await claim(database)
    row = await database.write(lambda unit: unit.outbox.reserve(asleep, new_id(), "m1"))
    clock.advance(30_000)
    held, turn_id = await claim(database, "new"), new_id()
    await database.write(lambda unit: unit.outbox.reserve(held, turn_id, "m1"))
    await database.write(lambda unit: unit.outbox.set_placeholder(row.id, "p2", turn_id=turn_id))
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.outbox.set_placeholder(row.id, "p1", turn_id=row.turn_id or ""))
    kept = await database.read(lambda unit: unit.outbox.get(row.id))
    assert (kept.placeholder_ref, kept.orphans) == ("p2", 1)


async def test_a_turn_without_a_reply_cancels_what_was_reserved(database: Database) -> None:
    """Nothing to say means nothing in the outbox."""
    await say(database, "1")
    held = await claim(database)
    reserved = await database.write(lambda unit: unit.outbox.reserve(held, new_id(), ""))
    _, row = await answer(database, held, reply=None)
    assert row is None
    assert (await database.read(lambda unit: unit.outbox.get(reserved.id))).state is OutboxState.CANCELLED


async def test_a_human_owned_conversation_is_recorded_in_silence(database: Database) -> None:
    """While a person has the conversation, turns are kept unanswered and a reply of the bot is refused."""
    await say(database, "1")
    first = await claim(database)
    await database.write(lambda unit: unit.inbox.release(first, refund=True))
    await database.write(lambda unit: unit.conversations.take(first.conversation.id, "agent"))
    held = await claim(database)
    assert held.conversation.owner is Owner.HUMAN
    with pytest.raises(ClaimLost):
        await answer(database, held)
    made, row = await answer(database, held, reply=None, status=TurnStatus.UNANSWERED, reply_text="")
    assert (made.status, row) == (TurnStatus.UNANSWERED, None)


async def test_a_turn_changes_its_conversation(database: Database) -> None:
    """Window, summary and sticky skill change with the turn; None leaves them alone."""
    await say(database, "1")
    held = await claim(database)
    made, _ = await answer(database, held, window_start=3, summary="so far", sticky_skill="write")
    await say(database, "2")
    await answer(database, await _again(database, held))
    after = await database.read(lambda unit: unit.conversations.get(made.conversation_id))
    assert (after.window_start, after.summary, after.skill, after.turns) == (3, "so far", "write", 2)


async def test_the_window_holds_the_newest_turns_oldest_first(database: Database) -> None:
    """Commands stay out; `after_seq` and `limit` cut; other conversations never enter."""
    for number in range(1, 6):
        await say(database, str(number))
        held = await claim(database)
        await answer(database, held, in_history=number != 3)
        await database.write(lambda unit, held=held: unit.inbox.release(held))
        await say(database, f"other{number}", chat="other")
        other = await claim(database)
        await answer(database, other)
        await database.write(lambda unit, other=other: unit.inbox.release(other))
    conversation_id = held.conversation.id
    window = await database.read(lambda unit: unit.turns.window(conversation_id, after_seq=1, limit=3))
    assert [(found.seq, found.user_text) for found in window] == [(2, "2"), (4, "4"), (5, "5")]
    everything = await database.read(lambda unit: unit.turns.list(conversation_id, limit=10, before=5))
    assert [found.seq for found in everything] == [4, 3, 2, 1]


async def test_documents_are_kept_for_their_time(database: Database, clock: ManualClock) -> None:
    """The document comes back byte for byte until it expires; the turn stays."""
    await say(database, "1")
    made, _ = await answer(database, await claim(database), document=b"\x00prompt")
    assert await database.read(lambda unit: unit.turns.document(made.id)) == b"\x00prompt"
    clock.advance(30 * _DAY_MS - 1)
    assert await database.write(lambda unit: unit.turns.expire_documents()) == 0
    clock.advance(1)
    assert await database.write(lambda unit: unit.turns.expire_documents()) == 1
    assert await database.read(lambda unit: unit.turns.document(made.id)) is None
    assert await database.read(lambda unit: unit.turns.get(made.id)) == made


async def test_a_turn_of_an_erased_user_is_not_written(database: Database) -> None:
    """A turn needs its user; the unit fails as a whole."""
    await say(database, "1")
    held = await claim(database)
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.turns.commit(held, turn(held, "gone"), reply="x", owner_epoch=0))
    with pytest.raises(NotFound):
        await database.read(lambda unit: unit.turns.get("gone"))


async def _again(database: Database, held: Claim) -> Claim:
    await database.write(lambda unit: unit.inbox.release(held))
    return await claim(database)


async def test_a_preview_that_comes_after_the_answer_reserves_nothing(database: Database) -> None:
    """A preview was about to reserve a row while its turn was committed: it hears that there is nothing left to announce."""
    await say(database, "1")
    held, turn_id = await claim(database), new_id()
    _, reply = await answer(database, held, id=turn_id)
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.outbox.reserve(held, turn_id, ""))
    assert reply is not None
    assert await database.read(lambda unit: unit.outbox.get(reply.id)) == reply
