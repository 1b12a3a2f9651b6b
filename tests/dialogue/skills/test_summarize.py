"""What /summarize understands."""

import pytest

from dialogue.config import DialogueConfig
from dialogue.skills.base import Refusal
from dialogue.skills.summarize import SummarizeSkill, parse_length, transcript
from storage.records import TurnStatus
from tests.dialogue.skills.inputs import asked, plan_of, turn

SKILL = SummarizeSkill(DialogueConfig())


@pytest.mark.parametrize(
    ("argument", "length", "text"),
    [
        ("A long story", "at most 3 sentences", "A long story"),
        ("short: A story", "at most 3 sentences", "A story"),
        ("long A story", "about 10 sentences", "A story"),
        ("length=detailed A story", "about 10 sentences", "A story"),
        ("3 sentences A story", "3 sentences", "A story"),
        ("in two sentences: A story", "two sentences", "A story"),
        ("in 50 words\nA story", "50 words", "A story"),
        ("5 bullet points", "5 bullet points", ""),
        ("3 sentencesque words", "at most 3 sentences", "3 sentencesque words"),
        ("shorts are warm", "at most 3 sentences", "shorts are warm"),
        ("三句话：故事", "三句话", "故事"),
        ("用100字 故事", "100字", "故事"),
        ("", "at most 3 sentences", ""),
    ],
)
def test_lengths(argument: str, length: str, text: str) -> None:
    """A length may stand first, in words or numbers, in English and Chinese; everything else is text."""
    assert parse_length(argument, "en") == (length, text)


def test_chinese_lengths() -> None:
    """A Chinese user's lengths are said in Chinese."""
    assert parse_length("简短 故事", "zh") == ("不超过三句话", "故事")
    assert parse_length("长度=长 故事", "zh") == ("大约十句话", "故事")


def test_a_text_is_summarised() -> None:
    """A given text is fenced as material; old turns are not in the prompt."""
    plan = plan_of(SKILL, "in 2 sentences The story of a cat.", history=(turn("hi", "hello"),), quoted_text="something else")
    assert plan.user_text == "Summarise this text:\n```\nThe story of a cat.\n```"
    assert "Length: 2 sentences." in plan.system
    assert not plan.history
    assert plan.fields is not None
    assert plan.fields.source_text == "The story of a cat."


def test_a_quoted_message_is_summarised() -> None:
    """Without a text, the message that is answered to is summarised."""
    assert "```\nquoted\n```" in plan_of(SKILL, "short", quoted_text="quoted").user_text


def test_the_conversation_is_summarised() -> None:
    """Without either, the turns of the window are, with who said what; excuses are left out."""
    history = (turn("hi", "hello"), turn("order?", "very busy", TurnStatus.FAILED), turn("still there?", "", TurnStatus.UNANSWERED))
    plan = plan_of(SKILL, "", history=history)
    assert plan.user_text == ("Summarise this conversation:\n```\nUser: hi\nAssistant: hello\nUser: order?\nUser: still there?\n```")
    assert "```\nThey bought shoes.\n\nUser: hi" in plan_of(SKILL, "", history=history, summary="They bought shoes.").user_text
    assert transcript(history, "zh").startswith("用户: hi\n助手: hello")


def test_nothing_to_summarise() -> None:
    """At the start of a conversation the skill says how it works."""
    refusal = SKILL.plan(asked("3 sentences"))
    assert isinstance(refusal, Refusal)
    assert "/summarize TEXT" in refusal.text
