"""Users, profiles, conversations, feedback, releases and the audit log: each row belongs to somebody."""

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from storage.backend import Work
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import NotFound
from storage.records import NewInboxItem, Owner, ProfileRecord, TurnRecord
from storage.unit_of_work import UnitOfWork
from tests.storage.world import ACCOUNT, CHANNEL, accept, answer, claim, item, nothing_to_claim, say


async def make_user(database: Database, external_id: str = "ann") -> str:
    """Return the id of a user."""
    return (await database.write(lambda unit: unit.users.ensure(CHANNEL, ACCOUNT, external_id))).id


async def answered(database: Database, event_id: str, *, chat: str, external_id: str, is_private: bool = True) -> TurnRecord:
    """Let a user say something and get an answer."""
    await accept(database, NewInboxItem(event_id, chat, f"raw {event_id}".encode(), is_private=is_private))
    held = await claim(database)
    made, row = await answer(database, held, external_id=external_id, document=f"document {event_id}".encode())
    assert row is not None
    await database.write(lambda unit: unit.outbox.start(row.id))
    await database.write(lambda unit: unit.outbox.add_chunk(row.id, 0, f"m{event_id}"))
    await database.write(lambda unit: unit.outbox.sent(row.id))
    await database.write(lambda unit: unit.inbox.release(held))
    return made


async def test_an_identity_is_one_user(database: Database) -> None:
    """The same platform id is the same user, at once and later; on another account it is another one."""
    ids = await asyncio.gather(*(make_user(database) for _ in range(5)))
    assert len(set(ids)) == 1
    other = await database.write(lambda unit: unit.users.ensure(CHANNEL, "bot2", "ann"))
    assert other.id != ids[0]
    found = await database.read(lambda unit: unit.users.find(CHANNEL, ACCOUNT, "ann"))
    assert found is not None
    assert found.id == ids[0]
    assert await database.read(lambda unit: unit.users.find(CHANNEL, ACCOUNT, "bob")) is None


async def test_name_and_language_follow_the_platform(database: Database) -> None:
    """What the platform says now replaces what it said; what it leaves out stays."""
    user_id = await make_user(database)
    await database.write(lambda unit: unit.users.ensure(CHANNEL, ACCOUNT, "ann", "Ann", "de"))
    await database.write(lambda unit: unit.users.ensure(CHANNEL, ACCOUNT, "ann", "Anna"))
    (row,) = (await database.read(lambda unit: unit.users.export(user_id)))["identities"]
    assert (row["display_name"], row["language"]) == ("Anna", "de")


async def test_a_profile_is_kept_and_forgotten(database: Database) -> None:
    """Fields and notes come back as they were set, and are all gone after /forget."""
    user_id = await make_user(database)
    assert await database.read(lambda unit: unit.users.profile(user_id)) == ProfileRecord(user_id)
    await database.write(lambda unit: unit.users.set_profile(user_id, name="Ann", tone="short"))
    await database.write(lambda unit: unit.users.set_profile(user_id, language="de", tone=""))
    assert await database.write(lambda unit: unit.users.add_note(user_id, "likes tea")) == 1
    assert await database.write(lambda unit: unit.users.add_note(user_id, "has a cat")) == 2
    expected = ProfileRecord(user_id, "Ann", "de", "", ("likes tea", "has a cat"))
    assert await database.read(lambda unit: unit.users.profile(user_id)) == expected
    assert await database.write(lambda unit: unit.users.forget_profile(user_id)) == 4
    assert await database.read(lambda unit: unit.users.profile(user_id)) == ProfileRecord(user_id)


async def test_what_belongs_to_nobody_is_refused(database: Database) -> None:
    """A profile, an export or an erasure needs a user who exists."""
    works: tuple[Work[object], ...] = (
        lambda unit: unit.users.set_profile("gone", name="x"),
        lambda unit: unit.users.add_note("gone", "x"),
        lambda unit: unit.users.export("gone"),
        lambda unit: unit.users.erase("gone"),
    )
    for work in works:
        with pytest.raises(NotFound):
            await database.write(work)


async def test_a_conversation_is_found_by_its_chat(database: Database) -> None:
    """`ensure` makes it once; a chat that was ever a group stays one."""
    made = await database.write(lambda unit: unit.conversations.ensure("terminal", "me", "local", True))
    assert (made.owner, made.window_start, made.turns, made.is_private) == (Owner.BOT, 1, 0, True)
    again = await database.write(lambda unit: unit.conversations.ensure("terminal", "me", "local", False))
    assert (again.id, again.is_private) == (made.id, False)
    assert await database.read(lambda unit: unit.conversations.find("terminal", "me", "local")) == again
    assert await database.read(lambda unit: unit.conversations.find("terminal", "me", "other")) is None
    with pytest.raises(NotFound):
        await database.read(lambda unit: unit.conversations.get("gone"))


async def test_a_new_start_leaves_the_past_out(database: Database) -> None:
    """After /new the window begins behind everything that was said."""
    made = await answered(database, "1", chat="ann", external_id="ann")
    await database.write(lambda unit: unit.conversations.start_new(made.conversation_id))
    after = await database.read(lambda unit: unit.conversations.get(made.conversation_id))
    assert (after.window_start, after.summary) == (2, "")
    await database.write(lambda unit: unit.conversations.set_skill(made.conversation_id, "write"))
    assert (await database.read(lambda unit: unit.conversations.get(made.conversation_id))).skill == "write"


async def test_who_waits_for_a_person_is_listed_longest_first(database: Database, clock: ManualClock) -> None:
    """Asking twice does not lose the place; takeover and withdrawal end the wait."""
    ids = []
    for chat in ("a", "b", "c"):
        ids.append((await database.write(lambda unit, chat=chat: unit.conversations.ensure(CHANNEL, ACCOUNT, chat, True))).id)
        clock.advance(1)
    for conversation_id in (ids[1], ids[0], ids[2], ids[1]):
        await database.write(lambda unit, conversation_id=conversation_id: unit.conversations.set_waiting(conversation_id))
        clock.advance(1000)
    assert await listed(database, waiting=True) == [ids[1], ids[0], ids[2]]
    await database.write(lambda unit: unit.conversations.take(ids[1], "agent"))
    await database.write(lambda unit: unit.conversations.set_waiting(ids[2], waiting=False))
    assert await listed(database, waiting=True) == [ids[0]]
    assert len(await listed(database, limit=2)) == 2
    newest, *rest = await listed(database)
    assert await listed(database, before=newest) == rest


async def listed(database: Database, **options: Any) -> list[str]:
    """Return the ids that `list` gives."""
    return [found.id for found in await database.read(lambda unit: unit.conversations.list(**options))]


async def test_feedback_belongs_to_the_turn_and_its_user(database: Database) -> None:
    """One opinion for each user and turn; strangers cannot rate a private chat, members can rate a group's answer."""
    private = await answered(database, "1", chat="ann", external_id="ann")
    group = await answered(database, "2", chat="group", external_id="ann", is_private=False)
    bob = await make_user(database, "bob")
    await database.write(lambda unit: unit.feedback.rate(private.id, private.user_id, 1))
    again = await database.write(lambda unit: unit.feedback.rate(private.id, private.user_id, -1, "wrong", "It is blue."))
    assert (again.rating, again.reason, again.correction) == (-1, "wrong", "It is blue.")
    await database.write(lambda unit: unit.feedback.rate(group.id, bob, 1))
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.feedback.rate(private.id, bob, 1))
    with pytest.raises(ValueError, match="1 or -1"):
        await database.write(lambda unit: unit.feedback.rate(private.id, private.user_id, 5))
    assert {row.turn_id for row in await database.read(lambda unit: unit.feedback.list())} == {private.id, group.id}
    assert [row.turn_id for row in await database.read(lambda unit: unit.feedback.list(rating=-1))] == [private.id]


async def test_the_audit_log_shows_every_change(database: Database) -> None:
    """A line that was edited, removed or inserted breaks the chain at its place."""
    for number in range(5):
        await database.write(lambda unit, number=number: unit.audit.append("ann", "test", str(number), "détail"))
    lines = await database.read(lambda unit: unit.audit.list(limit=10))
    assert [line.subject for line in lines] == ["4", "3", "2", "1", "0"]
    assert await database.read(lambda unit: unit.audit.list(limit=1, before=lines[1].id)) == lines[2:3]
    assert await database.read(lambda unit: unit.audit.verify()) is None
    ids = [line.id for line in reversed(lines)]
    for damage, broken in (
        (f"UPDATE audit SET detail = 'x' WHERE id = {ids[2]}", ids[2]),
        (f"DELETE FROM audit WHERE id = {ids[1]}", ids[2]),
        (f"DELETE FROM audit WHERE id = {ids[0]}", ids[1]),
    ):
        assert await _verdict_after(database, damage) == broken


async def _verdict_after(database: Database, damage: str) -> int | None:
    """Damage the log, ask for the verdict, and leave it as it was."""
    verdict: list[int | None] = []

    async def work(unit: UnitOfWork) -> None:
        await unit._context.connection.execute(text(damage))
        verdict.append(await unit.audit.verify())
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await database.write(work)
    return verdict[0]


async def test_lines_written_at_once_form_one_chain(database: Database) -> None:
    """Writers that append at the same moment do not fork the chain."""
    await asyncio.gather(*(database.write(lambda unit: unit.audit.append("ann", "test", "", "")) for _ in range(20)))
    assert await database.read(lambda unit: unit.audit.verify()) is None
    assert len({line.previous_hash for line in await database.read(lambda unit: unit.audit.list())}) == 20


async def everything(database: Database) -> str:
    """Return all rows of all tables as one text."""

    async def work(unit: UnitOfWork) -> str:
        names = (
            "users",
            "identities",
            "profiles",
            "profile_notes",
            "conversations",
            "turns",
            "turn_documents",
            "inbox",
            "outbox",
            "feedback",
        )
        return "".join([repr((await unit._context.connection.execute(text(f"SELECT * FROM {name}"))).all()) for name in names])

    return await database.read(work)


async def canaries(database: Database) -> tuple[str, str]:
    """Fill the database with what Ann and Bob said, alone and in a group; return their ids."""
    ann, bob = await make_user(database, "ann"), await make_user(database, "bob")
    for user_id, name in ((ann, "ann"), (bob, "bob")):
        private = await answered(database, f"{name}-private", chat=name, external_id=name)
        group = await answered(database, f"{name}-group", chat="group", external_id=name, is_private=False)
        await database.write(lambda unit, user_id=user_id, name=name: unit.users.add_note(user_id, f"{name}-note"))
        await database.write(lambda unit, user_id=user_id, name=name: unit.users.set_profile(user_id, name=f"{name}-name"))
        for made in (private, group):
            await database.write(
                lambda unit, made=made, user_id=user_id, name=name: unit.feedback.rate(made.id, user_id, -1, "wrong", f"{name}-correction")
            )
    return ann, bob


async def test_an_export_holds_all_of_one_user_and_nothing_of_another(database: Database) -> None:
    """The export is JSON with everything that a user said, got and told, and no word of anybody else."""
    ann, _ = await canaries(database)
    await say(database, "ann-unanswered", chat="ann")
    exported = await database.read(lambda unit: unit.users.export(ann))
    written = json.dumps(exported)
    for canary in ("ann-private", "ann-group", "ann-note", "ann-name", "ann-correction"):
        assert canary in written
    assert "bob" not in written
    assert len(exported["turns"]) == len(exported["turn_documents"]) == len(exported["outbox"]) == 2
    assert len(exported["inbox"]) == 3


async def test_erasing_leaves_nothing_of_the_user_and_all_of_the_others(database: Database) -> None:
    """Private chats go whole, from groups only the user's own turns; what others said stays."""
    ann, bob = await canaries(database)
    await say(database, "ann-unanswered", chat="ann")
    before = await database.read(lambda unit: unit.users.export(bob))
    counts = await database.write(lambda unit: unit.users.erase(ann))
    assert (counts["turns"], counts["inbox"], counts["conversations"], counts["users"]) == (2, 3, 1, 1)
    assert "ann" not in await everything(database)
    assert await database.read(lambda unit: unit.users.export(bob)) == before
    assert await nothing_to_claim(database)
    await database.scrub()
    assert await say(database, "later", chat="ann") == 1


async def test_a_chat_without_a_turn_is_erased_too(database: Database) -> None:
    """A private chat that was never answered belongs to the user whose platform id names it."""
    ann = await make_user(database, "ann")
    await say(database, "unanswered", chat="ann")
    await database.write(lambda unit: unit.users.erase(ann))
    assert "unanswered" not in await everything(database)


async def test_a_groups_summary_does_not_survive_its_member(database: Database) -> None:
    """A rolling summary may repeat what somebody said, so it goes when they go."""
    await accept(database, item("1", "group", is_private=False))
    made, _ = await answer(database, await claim(database), external_id="ann", summary="ann likes tea")
    await database.write(lambda unit: unit.users.erase(made.user_id))
    assert (await database.read(lambda unit: unit.conversations.get(made.conversation_id))).summary == ""
