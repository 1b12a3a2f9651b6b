"""Whom the assistant answers, and how much: through the whole program, on both databases."""

import pytest

from bot.access import DAY_MS, LIMIT_SKILL, MINUTE_MS, AccessPolicy
from bot.access_config import AccessConfig
from bot.settings import Settings
from bot.settings_sections import AccessSection
from dialogue.messages import ConversationKey, Sender
from storage.clock import ManualClock
from storage.database import Database
from storage.records import InboxState, TurnStatus
from tests.bot.rig import Rig, build_rig

TOO_FAST = "at most 2 messages a minute"
TOO_MUCH = "Your allowance for today is used up."
CLOSED = "closed circle"


async def _answers(rig: Rig, *texts: str, **event: object) -> list[str]:
    """Write one message after the other; return what was answered, "" = nothing."""
    said: list[str] = []
    chat = str(event.get("chat", "chat"))
    for text in texts:
        before = len(rig.platform.shown(chat))
        await rig.say(text, **event)
        await rig.work()
        said.append("".join(rig.platform.shown(chat)[before:]))
    return said


async def test_a_minute_has_a_limit_that_is_told_once(database: Database, clock: ManualClock) -> None:
    """Beyond it one polite answer, then silence; a minute later all is as before. Nothing of it is tried again."""
    rig = await build_rig(database, access=AccessConfig(messages_per_minute=2))
    first, second, refused, *silent = await _answers(rig, "a", "b", "c", "d", "e")
    assert (first != "", second != "", TOO_FAST in refused, silent) == (True, True, True, ["", ""])
    assert set(await rig.item_states()) == {InboxState.DONE}
    refusal = (await rig.turns())[-1]
    assert (refusal.skill, refusal.status) == (LIMIT_SKILL, TurnStatus.FAILED)
    window = await database.read(lambda unit: unit.turns.window(refusal.conversation_id))
    assert [turn.user_text for turn in window] == ["a", "b"]
    clock.advance(MINUTE_MS + 1)
    (later,) = await _answers(rig, "f")
    assert later
    assert TOO_FAST not in later


async def test_what_people_have_a_right_to_is_never_limited(database: Database) -> None:
    """Stopping, erasing, asking what is stored and asking for a person always work, and do not make the refusal come back."""
    rig = await build_rig(database, access=AccessConfig(messages_per_minute=2, tokens_per_day=1))
    await _answers(rig, "a", "b", "c")
    rights = ("/privacy", "/export", "/human", "/forget 7", "/stop")
    assert all(answer and TOO_MUCH not in answer for answer in await _answers(rig, *rights))
    assert await _answers(rig, "d", "/help") == ["", ""]


async def test_in_a_group_each_person_has_a_limit_of_their_own(database: Database) -> None:
    """Who writes too much is told once, even when others are answered in between; the others notice nothing."""
    rig = await build_rig(database, access=AccessConfig(messages_per_minute=2))
    room = {"chat": "room", "is_private": False}
    *_, refused = await _answers(rig, "a", "b", "c", sender="ann", **room)
    (bobs,) = await _answers(rig, "a", sender="bob", **room)
    (again,) = await _answers(rig, "d", sender="ann", **room)
    assert (TOO_FAST in refused, TOO_FAST in bobs, bobs != "", again) == (True, False, True, "")


async def test_a_day_has_an_allowance_of_tokens(database: Database, clock: ManualClock) -> None:
    """What prompts and replies took counts, for a day; the refusal is told once in it."""
    rig = await build_rig(database, access=AccessConfig(messages_per_minute=0, tokens_per_day=1))
    first, second, third = await _answers(rig, "a", "b", "c")
    assert (TOO_MUCH in first, TOO_MUCH in second, third) == (False, True, "")
    clock.advance(DAY_MS + 1)
    (tomorrow,) = await _answers(rig, "d")
    assert tomorrow
    assert TOO_MUCH not in tomorrow


async def test_limits_outlive_the_process(database: Database) -> None:
    """What was used is counted in the database: a restart is no way round it, and repeats no refusal."""
    access = AccessConfig(messages_per_minute=2)
    await _answers(await build_rig(database, access=access), "a", "b", "c")
    later = await build_rig(database, access=access)
    for _ in range(3):
        later.platform.say("from before")  # numbers that this database has seen
    assert await _answers(later, "d") == [""]


async def test_owners_have_no_limits(database: Database) -> None:
    """An owner is answered always, even when a list says otherwise."""
    access = AccessConfig(
        frozenset({"fake:ann"}), allow=frozenset({"bob"}), block=frozenset({"ann"}), messages_per_minute=1, tokens_per_day=1
    )
    rig = await build_rig(database, access=access)
    answers = await _answers(rig, "a", "b", "c")
    assert all(answers)
    assert not any(CLOSED in answer or TOO_MUCH in answer for answer in answers)


async def test_a_closed_circle_tells_strangers_once(database: Database, clock: ManualClock) -> None:
    """Who is not on the list is told so, once a minute, whatever they write; who is on it is answered."""
    rig = await build_rig(database, access=AccessConfig(allow=frozenset({"fake:ann"})))
    (welcome,) = await _answers(rig, "hello", sender="ann")
    refused, silent, right = await _answers(rig, "hello", "please", "/export", sender="bob", chat="other")
    assert (CLOSED in welcome, CLOSED in refused, silent, right) == (False, True, "", "")
    clock.advance(MINUTE_MS + 1)
    assert CLOSED in (await _answers(rig, "now?", sender="bob", chat="other"))[0]


async def test_the_blocked_hear_nothing(database: Database) -> None:
    """Their messages are done without an answer and without a turn."""
    rig = await build_rig(database, access=AccessConfig(block=frozenset({"ann"})))
    assert await _answers(rig, "hello", "/start") == ["", ""]
    assert await rig.item_states() == [InboxState.DONE, InboxState.DONE]
    assert await rig.turns() == ()


@pytest.mark.parametrize(
    ("named", "channel", "person", "is_owner"),
    [
        ("7", "telegram", "7", True),
        ("telegram:7", "telegram", "7", True),
        ("telegram:7", "terminal", "7", False),
        ("7", "telegram", "77", False),
    ],
)
def test_people_are_named_exactly(named: str, channel: str, person: str, is_owner: bool) -> None:
    """A bare id holds on every channel, one with a channel only there, and nobody is taken for somebody else."""
    policy = AccessPolicy(AccessConfig(owners=frozenset({named})))
    assert policy.is_owner(ConversationKey(channel, "bot", "chat"), Sender(person)) is is_owner


def test_settings_name_people() -> None:
    """The section [access] becomes what the policy judges by."""
    section = AccessSection(owners=("telegram:7",), allow=("8",), block=("9",), messages_per_minute=5, tokens_per_day=6)
    expected = AccessConfig(frozenset({"telegram:7"}), frozenset({"8"}), frozenset({"9"}), 5, 6)
    assert Settings(access=section).access_config() == expected


def test_by_default_everybody_is_answered() -> None:
    """Nobody owns, nobody is kept out, and only a flood is limited."""
    assert Settings().access_config() == AccessConfig()
