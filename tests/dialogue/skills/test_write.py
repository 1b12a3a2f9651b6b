"""What /write understands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.config import DialogueConfig
from dialogue.skills.base import Refusal
from dialogue.skills.write import KINDS, LENGTHS, TONES, WriteOrder, WriteSkill, parse_order
from storage.records import ProfileRecord
from tests.dialogue.skills.inputs import asked, plan_of

SKILL = WriteSkill(DialogueConfig())


@pytest.mark.parametrize(
    ("argument", "order"),
    [
        ("email tone=formal length=short about our holiday", WriteOrder("our holiday", "email", "formal", "short")),
        ("length=short, tone=formal, email about our holiday", WriteOrder("our holiday", "email", "formal", "short")),
        ("a short formal email about our holiday", WriteOrder("our holiday", "email", "formal", "short")),
        ("me a funny story about a cat about to leave", WriteOrder("a cat about to leave", "story", "funny", "")),
        ("email: the parcel is late", WriteOrder("the parcel is late", "email", "", "")),
        ("product description about red shoes", WriteOrder("red shoes", "product", "", "")),
        ("email to my boss that I am ill", WriteOrder("to my boss that I am ill", "email", "", "")),
        ("the story of a cat about to leave", WriteOrder("of a cat about to leave", "story", "", "")),
        ("about cats", WriteOrder("cats", "", "", "")),
        ("something nice for mum", WriteOrder("something nice for mum", "", "", "")),
        ("email", WriteOrder("", "email", "", "")),
        ("kind=limerick about tea", WriteOrder("tea", "limerick", "", "")),
        ("email tone=pirate about tea", WriteOrder("tea", "email", "pirate", "")),
        ("email length=7 about tea", WriteOrder("tea", "email", "", "")),
        ("邮件 语气=正式 长度=短 关于假期安排", WriteOrder("假期安排", "email", "formal", "short")),
        ("一封正式的邮件关于假期安排", WriteOrder("假期安排", "email", "formal", "")),
        ("写一篇简短的产品描述：红鞋", WriteOrder("红鞋", "product", "", "short")),
        ("", WriteOrder("")),
        ("   ", WriteOrder("")),
    ],
)
def test_orders(argument: str, order: WriteOrder) -> None:
    """Kind, tone and length are taken as options or in the order of speech; what chooses nothing is the topic."""
    assert parse_order(argument) == order


@pytest.mark.parametrize(("choices", "field"), [(KINDS, "kind"), (TONES, "tone"), (LENGTHS, "length")])
def test_every_word_chooses(choices: dict[str, object], field: str) -> None:
    """Each kind, tone and length can be chosen by its name, as an option and before "about"."""
    for key in choices:
        assert getattr(parse_order(f"{field}={key} about x"), field) == key
        assert getattr(parse_order(f"{key} about x"), field) == key


def test_the_plan() -> None:
    """The wanted text is described in words, defaults included; old turns stay out."""
    plan = plan_of(SKILL, "email about our holiday")
    assert plan.user_text == "Write an email with a subject line. Tone: neutral. Length: medium, about 120 words. About:\nour holiday"
    assert not plan.history
    assert plan.sampling.max_tokens == 320
    assert plan_of(SKILL, "a long story about x").sampling.max_tokens == 800


def test_the_plan_in_chinese() -> None:
    """A Chinese user's order is described in Chinese."""
    plan = plan_of(SKILL, "邮件 语气=正式 长度=短 关于假期", "zh")
    assert plan.user_text == "请写一封带主题的邮件。语气：正式。长度：短，不超过 80 字。内容关于：\n假期"


def test_the_users_tone_is_the_default() -> None:
    """A tone that the user set for themselves holds unless the order names another."""
    profile = ProfileRecord("u", tone="friendly")
    assert "Tone: friendly." in plan_of(SKILL, "email about x", profile=profile).user_text
    assert "Tone: formal." in plan_of(SKILL, "formal email about x", profile=profile).user_text


def test_a_reply_to_a_quoted_message() -> None:
    """The quoted message is the topic, or stands beside one."""
    assert plan_of(SKILL, "reply", quoted_text="Where is it?").user_text.endswith("About:\nWhere is it?")
    plan = plan_of(SKILL, "reply about the delay", quoted_text="Where is it?")
    assert plan.user_text.endswith("About:\nthe delay")
    assert plan.quoted_text == "Where is it?"


def test_greedy_owners_get_greedy_texts() -> None:
    """An owner who wants no chance gets none here either."""
    assert plan_of(WriteSkill(DialogueConfig(temperature=0)), "email about x").sampling.temperature == 0


def test_nothing_to_write() -> None:
    """Without a topic the skill says how it works and what there is."""
    refusal = SKILL.plan(asked("email"))
    assert isinstance(refusal, Refusal)
    assert "Kinds: email, letter, post" in refusal.text
    chinese = SKILL.plan(asked("", "zh"))
    assert isinstance(chinese, Refusal)
    assert "种类：邮件、信、帖子" in chinese.text


@given(st.text(max_size=200), st.sampled_from(["", "email ", "short formal ", "tone=formal ", "一封邮件关于"]))
def test_any_order_can_be_read(text: str, prefix: str) -> None:
    """No input breaks it, and the topic is part of what was written."""
    order = parse_order(prefix + text)
    assert all(word in prefix + text for word in order.topic.split())


def test_a_flood_of_blanks_is_read_in_one_go() -> None:
    """Reading an order takes time in proportion to its length: with a quadratic pattern this would run for minutes."""
    assert parse_order("a" + " " * 200_000 + "b").topic.endswith("b")
