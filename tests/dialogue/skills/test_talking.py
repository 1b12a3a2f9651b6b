"""The skills that talk: chat and support."""

import pytest

from dialogue.config import DialogueConfig
from dialogue.skills.base import Passage, Skill
from dialogue.skills.chat import ChatSkill
from dialogue.skills.support import SupportSkill
from dialogue.skills.texts import speaks_of_time
from storage.records import ProfileRecord
from tests.dialogue.skills.inputs import plan_of

OWNER = DialogueConfig(assistant_name="Momo", organisation="Shoe $hop", instructions="Never speak of $price.")


@pytest.mark.parametrize("skill", [ChatSkill(OWNER), SupportSkill(OWNER)])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_owner_has_a_say(skill: Skill, language: str) -> None:
    """Name, organisation and instructions of the owner stand in the system section as they were written."""
    system = plan_of(skill, "hi", language).system
    assert all(text in system for text in ("Momo", "Shoe $hop"))
    assert system.endswith("\n\nNever speak of $price.")


@pytest.mark.parametrize("skill", [ChatSkill(DialogueConfig()), SupportSkill(DialogueConfig())])
def test_without_an_owners_words(skill: Skill) -> None:
    """The prompts are whole sentences without any settings."""
    for language in ("en", "zh"):
        system = plan_of(skill, "hi", language).system
        assert "Kefu" in system
        assert "$" not in system
        assert not system.endswith("\n")


@pytest.mark.parametrize("skill", [ChatSkill(OWNER), SupportSkill(OWNER)])
def test_the_system_section_does_not_change_from_turn_to_turn(skill: Skill) -> None:
    """What the user writes, quotes or has in passages does not stand in the system section: engines keep its computation."""
    plain = plan_of(skill, "hi")
    other = plan_of(skill, "what is today's date?", quoted_text="quote", passages=(Passage("text", "source"),))
    assert plain.system == other.system
    assert (plain.wants_date, other.wants_date) == (False, True)
    assert other.quoted_text == "quote"


def test_only_support_uses_passages() -> None:
    """The customer service rests on passages and says what it does when it has none; the chat needs none."""
    passages = (Passage("text", "source"),)
    support = plan_of(SupportSkill(OWNER), "hi", passages=passages)
    assert support.passages == passages
    assert "I do not know that. Shall I ask a colleague?" in support.system
    assert "这个问题我不清楚，需要我请同事来帮您吗？" in plan_of(SupportSkill(OWNER), "hi", "zh").system
    assert plan_of(ChatSkill(OWNER), "hi", passages=passages).passages == ()


def test_the_profile_is_handed_on_as_given() -> None:
    """The skills add nothing to a profile and need none."""
    profile = ProfileRecord("u", "Ada")
    assert plan_of(ChatSkill(OWNER), "hi", profile=profile).profile is profile
    assert plan_of(ChatSkill(OWNER), "hi").profile is None


@pytest.mark.parametrize(
    ("text", "matters"),
    [
        ("are you open today?", True), ("What DATE is it", True), ("next week please", True), ("今天几号？", True),
        ("这个星期有货吗", True),
        ("update my candidate", False), ("hello", False), ("天气", False), ("everyday shoes", False),
    ],
)  # fmt: skip
def test_when_the_date_matters(text: str, *, matters: bool) -> None:
    """Only a message that speaks of days gets the date into its prompt."""
    assert speaks_of_time(text) is matters
