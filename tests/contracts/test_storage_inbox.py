"""The inbox keeps what it was given and hands it out once, in order, to one worker at a time."""

import asyncio
from typing import Any

import pytest

from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost, NotFound, StorageError
from storage.records import Claim, InboxKind, InboxState, NewInboxItem
from storage.testing import temporary_postgres
from storage.unit_of_work import UnitOfWork
from tests.conftest import OpenDatabase
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item, nothing_to_claim, say, stop


async def test_an_event_is_stored_once(database: Database) -> None:
    """The same event id again changes nothing, in one batch or in a later one."""
    assert await accept(database, item("1"), item("2"), item("1")) == 2
    assert await accept(database, item("2"), item("3")) == 1
    assert [found.event_id for found in (await claim(database)).items] == ["1", "2", "3"]


async def test_raw_bytes_come_back_as_they_were(database: Database) -> None:
    """Nothing is parsed or changed on the way in."""
    raw = bytes(range(256))
    await accept(database, NewInboxItem("1", "chat", raw))
    assert (await claim(database)).items[0].raw == raw


async def test_the_offset_is_stored_with_the_events(database: Database) -> None:
    """The polling offset lands in the same transaction; without one, the stored one stays."""
    assert await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT)) is None
    await accept(database, item("1"), offset=8)
    await accept(database, item("2"))
    assert await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT)) == 8


async def test_a_unit_that_fails_keeps_neither_events_nor_offset(database: Database) -> None:
    """A unit that fails after accept leaves nothing behind."""

    async def work(unit: UnitOfWork) -> None:
        await unit.inbox.accept(CHANNEL, ACCOUNT, [item("1")], 8)
        raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"):
        await database.write(work)
    assert await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT)) is None
    assert await nothing_to_claim(database)


async def test_an_answered_event_is_still_known(database: Database) -> None:
    """A platform that repeats an answered event gets no second answer."""
    await say(database, "1")
    await answer(database, await claim(database))
    assert await say(database, "1") == 0
    assert await database.read(lambda unit: unit.inbox.pending()) == 0
    assert await database.read(lambda unit: unit.inbox.oldest_pending_age_ms()) == 0


async def test_a_conversation_has_one_worker(database: Database) -> None:
    """A claimed conversation is given to nobody else, new messages or not."""
    await say(database, "1")
    await claim(database)
    await say(database, "2")
    assert await nothing_to_claim(database)


async def test_two_workers_get_different_conversations(database: Database) -> None:
    """Workers that claim at the same moment never share a conversation."""
    await accept(database, *(item(f"e{number}", f"chat{number}") for number in range(6)))
    claims = await asyncio.gather(*(claim(database, f"worker{number}") for number in range(6)))
    assert len({claimed.conversation.id for claimed in claims}) == 6


async def test_a_claim_never_waits_for_another_worker(postgres_url: str) -> None:
    """While one worker's claim is still being committed, the next worker gets the next conversation at once."""
    claimed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(unit: UnitOfWork) -> Claim | None:
        got = await unit.inbox.claim("slow")
        claimed.set()
        await go_on.wait()
        return got

    async with temporary_postgres(postgres_url) as database:
        await accept(database, item("1", "a"), item("2", "b"))
        first = asyncio.create_task(database.write(slow))
        await claimed.wait()
        second = await claim(database, "quick")
        go_on.set()
        slow_claim = await first
        assert slow_claim is not None
        assert {second.conversation.chat, slow_claim.conversation.chat} == {"a", "b"}


async def test_the_longest_waiting_conversation_comes_first(database: Database, clock: ManualClock) -> None:
    """Claims follow the age of the oldest waiting item."""
    for chat in ("b", "a", "c"):
        await say(database, chat, chat=chat)
        clock.advance(1000)
    assert [(await claim(database)).conversation.chat for _ in range(3)] == ["b", "a", "c"]


async def test_a_channel_can_be_chosen(database: Database) -> None:
    """A worker of one channel never gets another one's conversation."""
    await say(database, "1")
    assert await nothing_to_claim(database, channel="terminal")
    assert (await claim(database, channel=CHANNEL)).conversation.channel == CHANNEL


async def test_a_burst_is_one_claim(database: Database, clock: ManualClock) -> None:
    """Inside the quiet window nothing is handed out; after it, all of the burst in order of arrival."""
    await say(database, "1")
    clock.advance(500)
    await say(database, "2")
    clock.advance(799)
    assert await nothing_to_claim(database, quiet_ms=800)
    clock.advance(1)
    assert [found.event_id for found in (await claim(database, quiet_ms=800)).items] == ["1", "2"]


async def test_an_endless_burst_is_answered(database: Database, clock: ManualClock) -> None:
    """Who never stops writing gets an answer after five quiet windows."""
    for number in range(10):
        await say(database, str(number))
        clock.advance(500)
    assert len((await claim(database, quiet_ms=1000)).items) == 10


async def test_a_claim_is_limited(database: Database) -> None:
    """At most `limit` of the oldest items are handed out; the rest waits for its turn."""
    await say(database, "1", "2", "3")
    first = await claim(database, limit=2)
    assert [found.event_id for found in first.items] == ["1", "2"]
    await answer(database, first)
    await database.write(lambda unit: unit.inbox.release(first))
    assert [found.event_id for found in (await claim(database)).items] == ["3"]


async def test_a_released_conversation_is_handed_out_again(database: Database) -> None:
    """Items without an answer become new again and count one attempt more."""
    await say(database, "1")
    first = await claim(database)
    assert await database.write(lambda unit: unit.inbox.release(first))
    second = await claim(database)
    assert (second.items[0].attempts, second.claim_epoch) == (2, 2)


async def test_a_refunded_release_counts_no_attempt(database: Database) -> None:
    """A worker that only shuts down uses nothing up."""
    await say(database, "1")
    first = await claim(database)
    await database.write(lambda unit: unit.inbox.release(first, refund=True))
    assert (await claim(database)).items[0].attempts == 1


async def test_what_waits_behind_is_not_worn_out(database: Database, clock: ManualClock) -> None:
    """However often the program dies over the oldest item, those behind it keep all of their attempts."""
    await say(database, "1", "2", "3")
    for _ in range(2):
        await claim(database)
        clock.advance(30_000)
    held = await claim(database)
    await answer(database, held, inbox_ids=(held.items[0].id,))
    clock.advance(30_000)
    last = await claim(database)
    assert [(found.event_id, found.attempts) for found in last.items] == [("2", 1), ("3", 0)]


async def test_an_expired_lease_gives_the_conversation_away(database: Database, clock: ManualClock) -> None:
    """After the lease another worker gets it, and the old one can write nothing, neither turn nor heartbeat nor release."""
    await say(database, "1")
    old = await claim(database, "old")
    clock.advance(29_999)
    assert await nothing_to_claim(database)
    clock.advance(1)
    new = await claim(database, "new")
    assert new.items[0].id == old.items[0].id
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.inbox.renew(old))
    with pytest.raises(ClaimLost):
        await answer(database, old)
    assert not await database.write(lambda unit: unit.inbox.release(old))
    await answer(database, new)


async def test_a_renewed_lease_lasts(database: Database, clock: ManualClock) -> None:
    """A worker that keeps in touch keeps its conversation."""
    await say(database, "1")
    held = await claim(database)
    for _ in range(5):
        clock.advance(20_000)
        assert await database.write(lambda unit: unit.inbox.renew(held)) is False
        assert await nothing_to_claim(database)
    await answer(database, held)


async def test_a_stop_is_seen_by_the_heartbeat(database: Database) -> None:
    """A STOP that arrives while an answer is made shows at the next renewal, and gets a turn of its own."""
    await say(database, "1")
    held = await claim(database)
    await accept(database, stop("2", chat="other"))
    assert await database.write(lambda unit: unit.inbox.renew(held)) is False
    await accept(database, stop("3"))
    assert await database.write(lambda unit: unit.inbox.renew(held)) is True
    await answer(database, held)
    await database.write(lambda unit: unit.inbox.release(held))
    assert "3" in [found.event_id for found in (await claim(database)).items + (await claim(database)).items]


async def test_in_a_group_the_heartbeat_sees_the_stop_of_who_is_answered(database: Database) -> None:
    """Nobody else's STOP counts, and none while it is not known who is answered."""
    of_group: dict[str, Any] = {"kind": InboxKind.STOP, "is_private": False}
    await accept(database, item("1", is_private=False, sender="ann"))
    held = await claim(database)
    await accept(database, item("2", sender="bob", **of_group), item("3", **of_group))
    assert await database.write(lambda unit: unit.inbox.renew(held, asker="ann")) is False
    assert await database.write(lambda unit: unit.inbox.renew(held)) is False
    await accept(database, item("4", sender="ann", **of_group))
    assert await database.write(lambda unit: unit.inbox.renew(held, asker="ann")) is True
    assert await database.write(lambda unit: unit.inbox.renew(held)) is False


async def test_poison_is_quarantined_and_the_lane_goes_on(database: Database) -> None:
    """What was handed out three times without an answer is set aside, visibly; what came after it is answered."""
    await say(database, "poison")
    for _ in range(3):
        held = await claim(database)
        await database.write(lambda unit, held=held: unit.inbox.release(held))
    await say(database, "good")
    assert [found.event_id for found in (await claim(database)).items] == ["good"]
    aside = await database.read(lambda unit: unit.inbox.list(InboxState.QUARANTINED))
    assert [(found.event_id, found.error) for found in aside] == [("poison", "handed out 3 times without an answer")]


async def test_poison_alone_leaves_nothing_waiting(database: Database) -> None:
    """A conversation whose only item was quarantined is not handed out again."""
    await say(database, "poison")
    for _ in range(3):
        held = await claim(database)
        await database.write(lambda unit, held=held: unit.inbox.release(held))
    assert await nothing_to_claim(database)
    assert await database.read(lambda unit: unit.inbox.pending()) == 0


async def test_poison_takes_no_neighbour_with_it(database: Database) -> None:
    """On its last attempt an item is handed out alone."""
    await say(database, "poison", "good")
    for _ in range(2):
        held = await claim(database)
        assert len(held.items) == 2
        await database.write(lambda unit, held=held: unit.inbox.release(held))
    held = await claim(database)
    assert [found.event_id for found in held.items] == ["poison"]
    await database.write(lambda unit: unit.inbox.release(held))
    last = await claim(database)
    assert [found.event_id for found in last.items] == ["good"]
    await answer(database, last)


async def test_many_quarantined_conversations_do_not_hide_a_good_one(open_temporary: OpenDatabase, clock: ManualClock) -> None:
    """A claim passes by conversations that hold nothing but poison."""
    async with open_temporary(clock, max_attempts=1) as database:
        await accept(database, *(item(f"p{number}", f"poison{number:02}") for number in range(10)))
        for _ in range(10):
            await claim(database)
        clock.advance(30_000)
        await say(database, "good", chat="good")
        assert (await claim(database)).conversation.chat == "good"


async def test_an_item_is_quarantined_by_hand(database: Database) -> None:
    """A worker sets aside what cannot be parsed and answers the rest of its claim."""
    await say(database, "broken", "good")
    held = await claim(database)
    await database.write(lambda unit: unit.inbox.quarantine(held.items[0].id, "no JSON"))
    await answer(database, held, inbox_ids=(held.items[1].id,))
    assert await database.read(lambda unit: unit.inbox.pending()) == 0
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.inbox.quarantine(held.items[0].id, "again"))
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.inbox.quarantine("99", "nothing"))


async def test_what_needs_no_answer_is_dismissed(database: Database) -> None:
    """An event that is nobody's message is done without a turn; only the newest claim may say so, and only of its own chat."""
    await say(database, "joined", "hello")
    await say(database, "elsewhere", chat="other")
    held, other = await claim(database), await claim(database)
    await database.write(lambda unit: unit.inbox.dismiss(held, [held.items[0].id, other.items[0].id]))
    assert [found.event_id for found in await database.read(lambda unit: unit.inbox.list(InboxState.DONE))] == ["joined"]
    await answer(database, held, inbox_ids=(held.items[1].id,))
    await database.write(lambda unit: unit.inbox.release(other))
    with pytest.raises(ClaimLost):
        await database.write(lambda unit: unit.inbox.dismiss(other, [other.items[0].id]))


async def test_no_item_is_passed_over(database: Database) -> None:
    """A turn that would answer a later item before an earlier one is refused as a whole."""
    await say(database, "1", "2")
    held = await claim(database)
    with pytest.raises(StorageError, match="older item"):
        await answer(database, held, inbox_ids=(held.items[1].id,))
    await answer(database, held, inbox_ids=(held.items[0].id,))
    await answer(database, held, inbox_ids=(held.items[1].id,))


async def test_what_waits_is_counted(database: Database, clock: ManualClock) -> None:
    """Numbers of waiting items by channel, and the age of the oldest, are there for health checks."""
    await say(database, "1", "2")
    clock.advance(5000)
    await say(database, "3", chat="other")
    assert await database.read(lambda unit: unit.inbox.pending()) == 3
    assert await database.read(lambda unit: unit.inbox.pending(CHANNEL)) == 3
    assert await database.read(lambda unit: unit.inbox.pending("terminal")) == 0
    assert await database.read(lambda unit: unit.inbox.oldest_pending_age_ms()) == 5000
    assert [found.event_id for found in await database.read(lambda unit: unit.inbox.list(InboxState.NEW, 2))] == ["3", "2"]


async def test_old_answered_items_expire(database: Database, clock: ManualClock) -> None:
    """Answered items leave after eight days, waiting ones never."""
    await say(database, "1")
    await answer(database, await claim(database))
    await say(database, "2", chat="other")
    assert await database.write(lambda unit: unit.inbox.expire()) == 0
    clock.advance(8 * 86_400_000 + 1)
    assert await database.write(lambda unit: unit.inbox.expire()) == 1
    assert await database.read(lambda unit: unit.inbox.pending()) == 1


async def test_a_group_stays_a_group(database: Database) -> None:
    """Once an event said that a chat is a group, no later event makes it private."""
    await accept(database, item("1", is_private=False))
    await accept(database, item("2"))
    assert not (await claim(database)).conversation.is_private
