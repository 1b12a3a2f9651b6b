"""Taking over: what `take` waits for before it confirms, and what a person says and gives back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bot.errors import CliError
from bot.handoff_desk import MARGIN_MS, Desk, NothingRuns
from dialogue.messages import ConversationKey
from storage.clock import ManualClock
from storage.database import Database
from storage.records import OutboxRecord, OutboxState, Owner
from storage.unit_of_work import UnitOfWork
from tests.storage.world import ACCOUNT, CHANNEL, answer, claim, ready_message, say

TIMEOUT_MS = 5000


class Turns:
    """Stands in for the answers that are being made in this process: remembers which were ended, and lets a test hold one up."""

    def __init__(self, before_end: Callable[[], Awaitable[object]] | None = None) -> None:
        self.ended: list[ConversationKey] = []
        self._before_end = before_end

    async def end(self, key: ConversationKey) -> None:
        """Do what the test wants to happen just before the answer has ended."""
        if self._before_end is not None:
            await self._before_end()
        self.ended.append(key)


class Hours:
    """The `sleep` of a desk: moves the database's clock instead, and lets something happen at each step."""

    def __init__(self, clock: ManualClock, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.slept_s = 0.0
        self._clock = clock
        self._meanwhile = meanwhile

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.slept_s += seconds
        self._clock.advance(round(seconds * 1000))
        if self._meanwhile is not None:
            await self._meanwhile()


def desk_with(database: Database, hours: Hours, turns: Turns | None = None, *, follow_s: float = 1.0, end_s: float = 60.0) -> Desk:
    return Desk(database, turns or NothingRuns(), preview_s=15.0, follow_s=follow_s, end_s=end_s, sleep=hours.sleep)


async def on_its_way(database: Database) -> OutboxRecord:
    """Bring one reply of the bot up to `started`."""
    row = await ready_message(database)
    started = await database.write(lambda unit: unit.outbox.start(row.id, timeout_ms=TIMEOUT_MS))
    assert started is not None
    return started


async def state_of(database: Database, row: OutboxRecord) -> OutboxState:
    return (await database.read(lambda unit: unit.outbox.get(row.id))).state


async def test_nothing_to_wait_for(database: Database, clock: ManualClock) -> None:
    """Where the bot is silent anyway, the takeover is confirmed at once; what it had ready is cancelled."""
    row, hours = await ready_message(database), Hours(clock)
    taken = await desk_with(database, hours).take(row.conversation_id, "ada")
    assert taken == {"id": row.conversation_id, "owner": "human", "already": False, "in_flight": ""}
    assert hours.slept_s == 0
    assert await state_of(database, row) is OutboxState.CANCELLED


async def test_the_running_answer_is_ended_after_the_commit(database: Database, clock: ManualClock) -> None:
    """First no new message may begin, then the answer of this process is ended; the other way round a new one could slip between."""
    row = await ready_message(database)
    owners: list[Owner] = []

    async def look() -> None:
        owners.append((await database.read(lambda unit: unit.conversations.get(row.conversation_id))).owner)

    turns = Turns(look)
    await desk_with(database, Hours(clock), turns).take(row.conversation_id, "ada")
    assert owners == [Owner.HUMAN]
    assert turns.ended == [ConversationKey(CHANNEL, ACCOUNT, "chat")]


async def test_a_takeover_waits_for_the_message_on_its_way(database: Database, clock: ManualClock) -> None:
    """The confirmation comes after the platform has answered, and says what became of the message."""
    row = await on_its_way(database)

    async def arrive() -> None:
        if hours.slept_s > 1 and await state_of(database, row) is OutboxState.STARTED:
            await database.write(lambda unit: unit.outbox.sent(row.id))

    hours = Hours(clock, arrive)
    taken = await desk_with(database, hours).take(row.conversation_id, "ada")
    assert taken["in_flight"] == "sent"
    assert 1 < hours.slept_s < TIMEOUT_MS / 1000


async def test_a_sender_that_never_comes_back_is_unknown(database: Database, clock: ManualClock) -> None:
    """After the time of one request, and not before, the message is unknown for good and the takeover confirmed."""
    row, hours = await on_its_way(database), Hours(clock)
    taken = await desk_with(database, hours).take(row.conversation_id, "ada")
    assert taken["in_flight"] == "unknown"
    assert hours.slept_s * 1000 == pytest.approx(TIMEOUT_MS + MARGIN_MS, abs=100)
    clock.advance(3_600_000)
    assert await database.read(lambda unit: unit.outbox.due()) == ()


async def test_a_message_to_be_tried_again_does_not_hold_up_the_person(database: Database, clock: ManualClock) -> None:
    """What its sender left unknown with another attempt to come is given up, so that the person's words go out next."""
    row = await on_its_way(database)

    async def postpone() -> None:
        if await state_of(database, row) is OutboxState.STARTED:
            await database.write(lambda unit: unit.outbox.unknown(row.id, "no answer", retry_at=clock.now + 300_000))

    desk = desk_with(database, Hours(clock, postpone))
    assert (await desk.take(row.conversation_id, "ada"))["in_flight"] == "unknown"
    said = await desk.say(row.conversation_id, "Good morning.", "ada", wait=False)
    head = await database.read(lambda unit: unit.outbox.head(row.conversation_id))
    assert head is not None
    assert head.id == said["id"]


@pytest.mark.parametrize("chance", ["arrives", "is tried again", "is refused"])
async def test_giving_up_meets_the_end_of_the_request(database: Database, clock: ManualClock, chance: str) -> None:
    """A message that ends at the very deadline keeps its own end; either way it is no longer on its way at the confirmation."""
    row = await on_its_way(database)
    ends: dict[str, Callable[[UnitOfWork], Awaitable[None]]] = {
        "arrives": lambda unit: unit.outbox.sent(row.id),
        "is tried again": lambda unit: unit.outbox.retry(row.id, clock.now, "429"),
        "is refused": lambda unit: unit.outbox.failed(row.id, "blocked"),
    }

    async def at_the_deadline() -> None:
        if clock.now >= row.next_attempt_at + MARGIN_MS:
            await database.write(ends[chance])

    taken = await desk_with(database, Hours(clock, at_the_deadline)).take(row.conversation_id, "ada")
    expected = {"arrives": "sent", "is tried again": "cancelled", "is refused": "failed"}
    assert taken["in_flight"] == expected[chance]


async def test_a_claim_of_another_process_is_outwaited(database: Database, clock: ManualClock) -> None:
    """On PostgreSQL a preview of another process may be on its way for as long as one request takes; on SQLite there is no other."""
    await say(database, "1")
    held, hours = await claim(database), Hours(clock)
    await desk_with(database, hours).take(held.conversation.id, "ada")
    assert hours.slept_s == pytest.approx(15.0 if database.dialect == "postgresql" else 0.0, abs=0.1)


async def test_a_claim_that_ends_is_waited_for_no_longer(database: Database, clock: ManualClock) -> None:
    """As soon as the other process gives the conversation back, or somebody has it who knows of the takeover, it is confirmed."""
    await say(database, "1")
    held = await claim(database)

    async def give_back() -> None:
        if hours.slept_s > 1:
            await database.write(lambda unit: unit.inbox.release(held))
            await database.write(lambda unit: unit.inbox.claim("next"))

    hours = Hours(clock, give_back)
    await desk_with(database, hours).take(held.conversation.id, "ada")
    assert hours.slept_s < 2


async def test_taking_twice_waits_again(database: Database, clock: ManualClock) -> None:
    """Who was cut off before the confirmation takes again: nothing is counted twice, and the message on its way is waited for."""
    row = await on_its_way(database)
    first = await database.write(lambda unit: unit.conversations.take(row.conversation_id, "ada"))
    hours, turns = Hours(clock), Turns()
    taken = await desk_with(database, hours, turns).take(row.conversation_id, "ada")
    conversation = await database.read(lambda unit: unit.conversations.get(row.conversation_id))
    assert (taken["already"], taken["in_flight"]) == (True, "unknown")
    assert hours.slept_s > TIMEOUT_MS / 1000
    assert len(turns.ended) == 1
    assert conversation.owner_epoch == first.conversation.owner_epoch


async def test_words_of_a_person_are_not_waited_for(database: Database, clock: ManualClock) -> None:
    """What a person said before stays on its way: only the bot has to be silent."""
    row, hours = await ready_message(database), Hours(clock)
    desk = desk_with(database, hours)
    await desk.take(row.conversation_id, "ada")
    said = await desk.say(row.conversation_id, "One moment.", "ada", wait=False)
    await database.write(lambda unit: unit.outbox.start(said["id"]))
    assert (await desk.take(row.conversation_id, "bob"))["in_flight"] == ""
    assert hours.slept_s == 0


async def test_an_answer_that_does_not_end_is_no_confirmation(database: Database, clock: ManualClock) -> None:
    """If the bot cannot be silenced in time, the person hears so instead of a confirmation."""
    row = await ready_message(database)
    stuck = Turns(asyncio.Event().wait)
    with pytest.raises(CliError, match="not ended yet") as caught:
        await desk_with(database, Hours(clock), stuck, end_s=0.0).take(row.conversation_id, "ada")
    assert caught.value.code == 75


async def test_the_bot_says_nothing_after_the_confirmation(database: Database, clock: ManualClock) -> None:
    """Neither a turn that was being made, nor a reply that was ready, nor one that is tried again gets out any more."""
    row = await ready_message(database)
    await say(database, "2")
    held = await claim(database)
    await desk_with(database, Hours(clock)).take(row.conversation_id, "ada")
    with pytest.raises(Exception, match="changed hands"):
        await answer(database, held)
    assert await database.read(lambda unit: unit.outbox.head(row.conversation_id)) is None


async def test_what_a_person_says_is_followed(database: Database, clock: ManualClock) -> None:
    """`say` returns when the message has arrived, and tells so; it went to the outbox as the person's, not as a turn's."""
    row = await ready_message(database)

    async def deliver() -> None:
        head = await database.read(lambda unit: unit.outbox.head(row.conversation_id))
        if head is not None:
            await database.write(lambda unit: unit.outbox.start(head.id))
            await database.write(lambda unit: unit.outbox.sent(head.id))

    desk = desk_with(database, Hours(clock, deliver))
    await desk.take(row.conversation_id, "ada")
    said = await desk.say(row.conversation_id, "  Good morning.\n", "ada")
    stored = await database.read(lambda unit: unit.outbox.get(said["id"]))
    assert (said["state"], stored.text, stored.turn_id) == ("sent", "Good morning.", None)


@pytest.mark.parametrize(("follow_s", "slept_s"), [(3.0, 3.0), (0.0, 0.0)])
async def test_nobody_delivers(database: Database, clock: ManualClock, follow_s: float, slept_s: float) -> None:
    """A message that waits for its delivery is told as ready after a while; at once where nobody delivers."""
    row, hours = await ready_message(database), Hours(clock)
    desk = desk_with(database, hours, follow_s=follow_s)
    await desk.take(row.conversation_id, "ada")
    assert (await desk.say(row.conversation_id, "Hello?", "ada"))["state"] == "ready"
    assert hours.slept_s == pytest.approx(slept_s, abs=0.1)


async def test_trouble_is_told_at_once(database: Database, clock: ManualClock) -> None:
    """A message that the platform refused for now is tried again later; the person hears why, and does not wait for that."""
    row = await ready_message(database)

    async def refuse() -> None:
        head = await database.read(lambda unit: unit.outbox.head(row.conversation_id))
        assert head is not None
        await database.write(lambda unit: unit.outbox.start(head.id))
        await database.write(lambda unit: unit.outbox.retry(head.id, clock.now + 60_000, "429"))

    hours = Hours(clock, refuse)
    desk = desk_with(database, hours, follow_s=20.0)
    await desk.take(row.conversation_id, "ada")
    said = await desk.say(row.conversation_id, "Hello?", "ada")
    assert (said["state"], said["error"]) == ("ready", "429")
    assert hours.slept_s < 1


@pytest.mark.parametrize(("text", "words"), [("", "nothing to say"), (" \n", "nothing to say"), ("x" * 16_001, "too long")])
async def test_what_cannot_be_said(database: Database, clock: ManualClock, text: str, words: str) -> None:
    """Nothing, and more than a message may hold, is refused as a usage error before the database is asked."""
    with pytest.raises(CliError, match=words) as caught:
        await desk_with(database, Hours(clock)).say("gone", text, "ada")
    assert caught.value.code == 2


async def test_nobody_speaks_beside_the_bot(database: Database, clock: ManualClock) -> None:
    """While the bot has the conversation, a person takes it first; nothing is queued."""
    row = await ready_message(database)
    with pytest.raises(CliError, match="take it first"):
        await desk_with(database, Hours(clock)).say(row.conversation_id, "hello", "ada")
    assert len(await database.read(lambda unit: unit.outbox.list())) == 1


async def test_unknown_conversations_are_named(database: Database, clock: ManualClock) -> None:
    """Each operation says which conversation is not there."""
    desk = desk_with(database, Hours(clock))
    for work in (desk.take("gone", "ada"), desk.say("gone", "hello", "ada"), desk.release("gone", "ada")):
        with pytest.raises(CliError, match="no conversation gone"):
            await work


async def test_giving_back(database: Database, clock: ManualClock) -> None:
    """After the release the bot answers again, the person's words are still delivered, and a second release changes nothing."""
    row = await ready_message(database)
    desk = desk_with(database, Hours(clock))
    await desk.take(row.conversation_id, "ada")
    said = await desk.say(row.conversation_id, "Goodbye.", "ada", wait=False)
    given = await desk.release(row.conversation_id, "ada")
    again = await desk.release(row.conversation_id, "ada")
    assert (given["owner"], given["already"], again["already"]) == ("bot", False, True)
    assert await database.write(lambda unit: unit.outbox.start(said["id"])) is not None
    await database.write(lambda unit: unit.outbox.sent(said["id"]))
    await say(database, "2")
    _, reply = await answer(database, await claim(database))
    assert reply is not None


async def test_the_audit_log_names_who_did_it(database: Database, clock: ManualClock) -> None:
    """Each take, word and release stands there once, with its actor; what was said does not."""
    row = await ready_message(database)
    desk = desk_with(database, Hours(clock))
    await desk.take(row.conversation_id, "ada")
    await desk.take(row.conversation_id, "ada")
    said = await desk.say(row.conversation_id, "secret words", "ada", wait=False)
    await desk.release(row.conversation_id, "bob")
    lines = await database.read(lambda unit: unit.audit.list())
    assert [(line.actor, line.action, line.subject, line.detail) for line in reversed(lines)] == [
        ("ada", "conversation.take", row.conversation_id, ""),
        ("ada", "conversation.say", row.conversation_id, said["id"]),
        ("bob", "conversation.release", row.conversation_id, ""),
    ]


async def test_people_who_speak_and_take_at_once_do_not_lock_each_other_out(database: Database, clock: ManualClock) -> None:
    """Takeovers, words and releases of one conversation lock its row before the audit log, whoever comes first."""
    row = await ready_message(database)
    desk = desk_with(database, Hours(clock))
    await desk.take(row.conversation_id, "ada")
    work = [desk.say(row.conversation_id, f"{number}", "ada", wait=False) for number in range(8)]
    both = [desk.release(row.conversation_id, "bob"), desk.take(row.conversation_id, "cem")]
    results = await asyncio.gather(*work, *both, return_exceptions=True)
    unexpected = [result for result in results if isinstance(result, Exception) and "take it first" not in str(result)]
    assert [error for error in unexpected if "changed hands" not in str(error)] == []
