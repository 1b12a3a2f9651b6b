"""What one user did in one chat can be given out and erased alone; nothing of anybody hides where an erasure does not look."""

import json
from typing import Any

import pytest

from storage.backend import Work
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import NotFound
from storage.records import InboxState, NewInboxItem, Usage
from tests.contracts.test_storage_people import answered, canaries, everything, make_user
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item, say


def said(event_id: str, sender: str, chat: str = "group", **fields: Any) -> NewInboxItem:
    """Return an event of a group that says who sent it."""
    return item(event_id, chat, sender=sender, is_private=False, **fields)


async def dismissed(database: Database, *items: NewInboxItem) -> None:
    """Let events come in that never become a turn."""
    await accept(database, *items)
    held = await claim(database)
    await database.write(lambda unit: unit.inbox.dismiss(held, [found.id for found in held.items]))
    await database.write(lambda unit: unit.inbox.release(held))


async def conversation(database: Database, chat: str = "group") -> str:
    """Return the id of a chat's conversation."""
    found = await database.read(lambda unit: unit.conversations.find(CHANNEL, ACCOUNT, chat))
    assert found is not None
    return found.id


async def test_one_chat_is_exported_alone(database: Database) -> None:
    """Only what this user did in this chat, no profile, no other chat, nobody else."""
    ann, _ = await canaries(database)
    group = await conversation(database)
    exported = await database.read(lambda unit: unit.users.export(ann, group))
    written = json.dumps(exported)
    assert "ann-group" in written
    assert "ann-correction" in written
    for other in ("ann-private", "ann-note", "ann-name", "bob"):
        assert other not in written
    assert set(exported) & {"profiles", "profile_notes", "identities", "users"} == set()
    assert [len(exported[name]) for name in ("turns", "turn_documents", "inbox", "outbox", "outbox_chunks", "feedback")] == [1] * 6


async def test_one_chat_is_erased_alone(database: Database) -> None:
    """The user's turns of this chat go with what others thought of them; everything else stays."""
    ann, bob = await canaries(database)
    group = await conversation(database)
    (turn_id,) = [row["id"] for row in (await database.read(lambda unit: unit.users.export(ann, group)))["turns"]]
    before = await database.read(lambda unit: unit.users.export(bob))
    await database.write(lambda unit: unit.feedback.rate(turn_id, bob, 1, "", "bob on ann-group"))
    counts = await database.write(lambda unit: unit.users.erase(ann, group))
    assert (counts["turns"], counts["inbox"], counts["outbox"], counts["feedback"], counts["conversations"]) == (1, 1, 1, 2, 0)
    left = await everything(database)
    assert "ann-group" not in left
    for kept in ("ann-private", "ann-note", "ann-name"):
        assert kept in left
    assert await database.read(lambda unit: unit.users.export(bob)) == before
    assert (await database.write(lambda unit: unit.users.erase(ann, group)))["turns"] == 0


async def test_a_private_chat_is_erased_whole(database: Database) -> None:
    """A private chat is its user's with everything in it; the user stays, and so do the user's other chats."""
    ann, _ = await canaries(database)
    await say(database, "ann-unanswered", chat="ann")
    private = await conversation(database, "ann")
    counts = await database.write(lambda unit: unit.users.erase(ann, private))
    assert (counts["turns"], counts["inbox"], counts["conversations"]) == (1, 2, 1)
    left = await everything(database)
    for gone in ("ann-private", "ann-unanswered"):
        assert gone not in left
    for kept in ("ann-group", "ann-note"):
        assert kept in left


async def test_a_chat_of_somebody_else_is_not_touched(database: Database) -> None:
    """Naming another person's private chat gives and erases nothing."""
    ann, bob = await canaries(database)
    private = await conversation(database, "bob")
    before = await database.read(lambda unit: unit.users.export(bob))
    exported = await database.read(lambda unit: unit.users.export(ann, private))
    assert [rows for name, rows in exported.items() if name != "user_id" and rows] == []
    assert set((await database.write(lambda unit: unit.users.erase(ann, private))).values()) == {0}
    assert await database.read(lambda unit: unit.users.export(bob)) == before
    works: tuple[Work[object], ...] = (
        lambda unit: unit.users.export("gone", private),
        lambda unit: unit.users.erase("gone", private),
    )
    for work in works:
        with pytest.raises(NotFound):
            await database.write(work)


@pytest.mark.parametrize("whole", [False, True])
async def test_words_that_never_became_a_turn_are_reached(database: Database, whole: bool) -> None:
    """Events of a group that were dismissed, set aside or still wait belong to their senders."""
    ann = await make_user(database, "ann")
    await dismissed(database, said("ann-dismissed", "ann"), said("bob-dismissed", "bob"))
    await accept(database, said("ann-aside", "ann"), said("bob-waits", "bob"), said("ann-waits", "ann"))
    aside = (await database.read(lambda unit: unit.inbox.list(InboxState.NEW)))[-1]
    await database.write(lambda unit: unit.inbox.quarantine(aside.id, "no JSON"))
    group = await conversation(database) if not whole else None
    assert len((await database.read(lambda unit: unit.users.export(ann, group)))["inbox"]) == 3
    assert (await database.write(lambda unit: unit.users.erase(ann, group)))["inbox"] == 3
    left = await everything(database)
    assert "bob-dismissed" in left
    assert "ann-" not in left
    assert [found.event_id for found in (await claim(database)).items] == ["bob-waits"]


async def test_an_erasure_that_leaves_nothing_waiting_leaves_nothing_to_claim(database: Database) -> None:
    """A group whose last waiting event was erased is not handed out."""
    ann = await make_user(database, "ann")
    await accept(database, said("1", "ann"))
    await database.write(lambda unit: unit.users.erase(ann))
    assert await database.read(lambda unit: unit.inbox.oldest_pending_age_ms()) == 0
    assert await database.write(lambda unit: unit.inbox.claim("worker")) is None


async def test_the_same_id_on_another_account_is_somebody_else(database: Database) -> None:
    """A sender is known by channel, account and id."""
    ann = await make_user(database, "ann")
    await database.write(lambda unit: unit.inbox.accept(CHANNEL, "bot2", [said("other", "ann")]))
    assert (await database.read(lambda unit: unit.users.export(ann)))["inbox"] == []


async def test_threads_of_a_private_chat_belong_to_its_user(database: Database) -> None:
    """A thread that was never answered is known by the chat it hangs on."""
    ann = await make_user(database, "123")
    for chat in ("123", "123/45", "1234", "12"):
        await say(database, f"in {chat}.", chat=chat)
    assert len((await database.read(lambda unit: unit.users.export(ann)))["conversations"]) == 2
    await database.write(lambda unit: unit.users.erase(ann))
    left = await everything(database)
    assert [f"in {chat}." in left for chat in ("123", "123/45", "1234", "12")] == [False, False, True, True]


async def test_a_chat_of_somebody_who_was_erased_can_go_too(database: Database) -> None:
    """Whoever presses "erase" again leaves a chat without a user; it goes with everything in it."""
    made = await answered(database, "1", chat="ann", external_id="ann")
    await database.write(lambda unit: unit.users.erase(made.user_id))
    await accept(database, item("again", "ann"), item("thread", "ann/7"))
    for chat in ("ann", "ann/7"):
        nobodys = await conversation(database, chat)
        assert await database.write(lambda unit, nobodys=nobodys: unit.conversations.erase_chat(nobodys))
        assert not await database.write(lambda unit, nobodys=nobodys: unit.conversations.erase_chat(nobodys))
    left = await everything(database)
    assert "again" not in left
    assert "thread" not in left


async def test_a_chat_that_is_somebodys_is_not_erased_without_them(database: Database) -> None:
    """Groups, chats with a known user and chats named after one stay."""
    await canaries(database)
    await make_user(database, "cleo")
    await accept(database, item("1", "cleo"), item("2", "cleo/1"), said("3", "dan", "other"))
    before = await everything(database)
    for chat in ("ann", "group", "cleo", "cleo/1", "other"):
        known = await conversation(database, chat)
        assert not await database.write(lambda unit, known=known: unit.conversations.erase_chat(known))
    assert await everything(database) == before


async def test_usage_counts_what_a_user_said(database: Database, clock: ManualClock) -> None:
    """Turns with words of the user since a time, with their tokens; turns without words and other users do not count."""
    ann, since = await make_user(database), clock.now + 1000

    async def use(event_id: str, **changes: Any) -> None:
        await say(database, event_id)
        held = await claim(database)
        await answer(database, held, prompt_tokens=100, completion_tokens=20, **changes)
        await database.write(lambda unit: unit.inbox.release(held))

    assert await database.read(lambda unit: unit.turns.usage(ann, since=0)) == Usage(0, 0)
    await use("1")
    clock.advance(1000)
    await use("2", in_history=False)
    await use("3", user_text="")
    await use("4", external_id="bob")
    assert await database.read(lambda unit: unit.turns.usage(ann, since=since)) == Usage(1, 120)
    assert await database.read(lambda unit: unit.turns.usage(ann, since=0)) == Usage(2, 240)


async def test_an_opinion_is_found_by_turn_and_user(database: Database) -> None:
    """A second press changes the one opinion there is."""
    made = await answered(database, "1", chat="ann", external_id="ann")
    assert await database.read(lambda unit: unit.feedback.of(made.id, made.user_id)) is None
    first = await database.write(lambda unit: unit.feedback.rate(made.id, made.user_id, 1))
    second = await database.write(lambda unit: unit.feedback.rate(made.id, made.user_id, -1, "tone"))
    assert first.id == second.id
    assert await database.read(lambda unit: unit.feedback.of(made.id, made.user_id)) == second


async def test_what_was_set_aside_is_counted(database: Database) -> None:
    """Health checks see how many events wait for people to look at them."""
    await say(database, "1", "2")
    held = await claim(database)
    for found in held.items:
        await database.write(lambda unit, found=found: unit.inbox.quarantine(found.id, "no JSON"))
    assert await database.read(lambda unit: unit.inbox.quarantined_count()) == 2
