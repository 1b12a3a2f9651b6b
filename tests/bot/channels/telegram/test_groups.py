"""Who is meant in a group, and what remains of a message when our name is taken off."""

from typing import Any

import pytest

from bot.channels.telegram.groups import Span, without_name
from bot.channels.telegram.parse import GroupMode, ParseRules
from dialogue.messages import ButtonPress
from tests.bot.channels.telegram.updates import BEN, BOT, FORUM, GROUP, OURSELVES, PHOTO, TEXT_FILE, message, parse, press, read, said

ALL = ParseRules(group_mode=GroupMode.ALL)
OFF = ParseRules(group_mode=GroupMode.OFF)
TO_US = {"reply_to_message": message(GROUP, author=OURSELVES, text="It is five.")}
TO_BEN = {"reply_to_message": message(GROUP, author=BEN, text="It is six.")}
TOPIC = {"message_thread_id": 45, "is_topic_message": True}
OPENED = {"reply_to_message": message(FORUM, author=OURSELVES, message_id=45, forum_topic_created={"name": "Tea"})}
NAMED = {"type": "text_mention", "offset": 0, "length": 4}

FOR_US: list[tuple[dict[str, Any], str]] = [
    (said("/help"), "/help"),
    (said("/help@kefu_bot me"), "/help@kefu_bot me"),
    (said("/help@KEFU_Bot"), "/help@KEFU_Bot"),
    (said("@kefu_bot what time is it?"), "what time is it?"),
    (said("@Kefu_Bot, what time is it?"), "what time is it?"),
    (said("what time is it @kefu_bot"), "what time is it"),
    (said("👋🏽 tell me, @kefu_bot, what time is it?"), "👋🏽 tell me, @kefu_bot, what time is it?"),
    (said("👋🏽 what time is it? @kefu_bot"), "👋🏽 what time is it?"),
    (said("@kefu_bot @kefu_bot hi @kefu_bot"), "hi"),
    (said("@kefu_bot /summarize"), "/summarize"),
    (said("@ben_b ask @kefu_bot"), "@ben_b ask"),
    (message(GROUP, text="Kefu what time?", entities=[NAMED | {"user": OURSELVES}]), "what time?"),
    (message(GROUP, text="what time?", **TO_US), "what time?"),
    (said("@kefu_bot is that so?", **TO_BEN), "is that so?"),
    (said("@kefu_bot", **TO_BEN), ""),
    (message(FORUM, text="what time?", **TOPIC, **TO_US), "what time?"),
    (
        message(GROUP, photo=PHOTO, caption="@kefu_bot what?", caption_entities=[{"type": "mention", "offset": 0, "length": 9}]),
        "what?",
    ),
]
FOR_OTHERS = [
    said("/help@other_bot"),
    said("@kefu_bot /help@other_bot"),
    said("@ben_b what time is it?"),
    message(GROUP, text="Ben, what time?", entities=[NAMED | {"length": 3, "user": BEN}]),
    message(GROUP, text="what time?", **TO_BEN),
]
FOR_NOBODY = [
    said("what time is it?"),
    said("I met @ben_b today"),
    said("see /usr/bin"),
    said("mail me at x@kefu_bot"),
    message(GROUP, text="@kefu_bot without an entity"),
    message(FORUM, text="what time?", **TOPIC, **OPENED),
    message(GROUP, text="what?", entities=[{"type": "mention", "offset": -1, "length": 9}, {"type": "mention"}, 5]),
]
NO_WORDS = [message(GROUP, photo=PHOTO), message(GROUP, document=TEXT_FILE), message(GROUP, sticker={"file_id": "CAAC"})]


@pytest.mark.parametrize(("body", "text"), FOR_US)
def test_what_is_said_to_us_is_answered(body: dict[str, Any], text: str) -> None:
    """A command, a mention and a reply are answered in both modes, without our name around the words."""
    found = read(body)
    assert (found.text, found.is_private, found.is_unreadable) == (text, False, False)
    assert read(body, ALL) == found


@pytest.mark.parametrize("body", FOR_OTHERS)
def test_what_is_said_to_others_is_not_answered(body: dict[str, Any]) -> None:
    """A command for another bot, words that begin with a name, and a reply to a person are not for us, whatever the mode."""
    assert parse(body) is None
    assert parse(body, ALL) is None


@pytest.mark.parametrize("body", FOR_NOBODY)
def test_what_is_said_to_nobody_is_answered_where_the_owner_wants_it(body: dict[str, Any]) -> None:
    """Words that name nobody are answered in mode `all` only; in a topic, the message that opened it is no reply."""
    assert parse(body) is None
    assert read(body, ALL).text == body["text"]


@pytest.mark.parametrize("body", NO_WORDS)
def test_media_in_groups_are_left_alone(body: dict[str, Any]) -> None:
    """Pictures and files that people show one another get no answer, in no mode; shown to us, they do."""
    assert parse(body) is None
    assert parse(body, ALL) is None
    assert read(body | TO_US).text == ""


def test_a_bare_name_is_nothing_to_answer() -> None:
    """Our name alone asks nothing; with a reply it asks about that."""
    assert parse(said("@kefu_bot")) is None
    assert read(said("@kefu_bot", **TO_BEN)).quoted_text == "It is six."
    assert read(said("@kefu_bot", reply_to_message=message(GROUP, author=BEN, document=TEXT_FILE))).file is not None


def test_off_is_off() -> None:
    """In mode `off` nothing is answered in groups, and everything in private."""
    assert [parse(body, OFF) for body, _ in FOR_US] == [None] * len(FOR_US)
    assert parse(said("/stop"), OFF) is None
    assert parse(press(message=message(GROUP, author=OURSELVES, text="x")), OFF, "callback_query") is None
    assert read(message(text="hi"), OFF).text == "hi"


def test_a_group_may_differ() -> None:
    """The owner's choice for one group stands above the choice for all."""
    rules = ParseRules(groups={"-1001987654321": GroupMode.ALL})
    assert read(said("what time is it?"), rules).text == "what time is it?"
    assert parse(message(FORUM, text="what time is it?"), rules) is None
    assert read(message(FORUM, text="what?", **TOPIC), ParseRules(groups={"-1001987650000": GroupMode.ALL})).key.chat == "-1001987650000/45"


def test_presses_in_groups() -> None:
    """A button in a topic belongs to the topic's conversation."""
    under = message(FORUM, author=OURSELVES, text="x", **TOPIC)
    found = parse(press(message=under), kind="callback_query")
    assert isinstance(found, ButtonPress)
    assert (found.key.chat, found.is_private) == ("-1001987650000/45", False)


def test_commands_for_other_bots_in_private() -> None:
    """A command that names another bot is not ours in a private chat either; a mention there changes nothing."""
    assert parse(message(text="/help@other_bot")) is None
    assert read(said("@kefu_bot hi", message()["chat"])).text == "@kefu_bot hi"


@pytest.mark.parametrize(
    ("text", "mentions", "rest"),
    [
        ("@a b", [Span(0, 2)], "b"),
        ("b @a", [Span(2, 4)], "b "),
        ("@a", [Span(0, 2)], ""),
        ("😀@a", [Span(2, 4)], "😀"),
        ("@a b", [Span(0, 99)], ""),
        ("@a b", [Span(0, 2), Span(1, 3)], "b"),
        ("\ud83d@a", [Span(1, 3)], "\ud83d"),
        ("ab", [], "ab"),
    ],
)
def test_names_are_cut_in_utf16(text: str, mentions: list[Span], rest: str) -> None:
    """Offsets count UTF-16 code units, and one that lies does no harm."""
    assert without_name(text, mentions) == rest
    assert BOT.username not in rest
