"""Who answers what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.config import DialogueConfig
from dialogue.memory import memory_commands
from dialogue.messages import ConversationKey, IncomingMessage, Sender
from dialogue.router import ON_A_TEXT, ChooseSkill, CommandRoute, Router, SkillRoute, UnknownCommand, parse_command, split_bursts
from dialogue.skills.registry import load_skills

ROUTER = Router(load_skills(DialogueConfig(), installed=()), memory_commands(), "chat")


@pytest.mark.parametrize(
    ("text", "sticky", "skill", "argument", "chosen"),
    [
        ("hello", "", "chat", "hello", None),
        ("hello", "support", "support", "hello", None),
        ("hello", "a skill that is gone", "chat", "hello", None),
        ("/translate to German hello", "support", "translate", "to German hello", None),
        ("/tr hello", "", "translate", "hello", None),
        ("/TRANSLATE@KefuBot hello", "", "translate", "hello", None),
        ("/translate", "", "translate", "", None),
        ("/support where is it?", "", "support", "where is it?", "support"),
        ("/write\nemail about x", "", "write", "email about x", None),
        ("/usr/bin/python is missing", "", "chat", "/usr/bin/python is missing", None),
        ("/ hello", "", "chat", "/ hello", None),
        (" /memory", "", "chat", " /memory", None),
        ("1/2 of it", "", "chat", "1/2 of it", None),
    ],
)
def test_skills(text: str, sticky: str, skill: str, argument: str, chosen: str | None) -> None:
    """A command chooses its skill, then the sticky choice, then the default; what only looks like a command is text."""
    route = ROUTER.route(text, sticky)
    assert isinstance(route, SkillRoute)
    assert (route.skill.name, route.argument, route.sticky_skill) == (skill, argument, chosen)


def test_commands() -> None:
    """A command of its own comes before everything else."""
    route = ROUTER.route("/remember I like tea", "support")
    assert isinstance(route, CommandRoute)
    assert (route.command.name, route.argument) == ("remember", "I like tea")


def test_choosing_a_skill_without_a_text() -> None:
    """/support alone is answered with a word and no generation."""
    route = ROUTER.route("/support")
    assert isinstance(route, CommandRoute)
    assert isinstance(route.command, ChooseSkill)


def test_an_unknown_command() -> None:
    """A command that does not exist is no message to the model."""
    route = ROUTER.route("/dance now")
    assert isinstance(route, CommandRoute)
    assert isinstance(route.command, UnknownCommand)
    assert route.command.name == "dance"


def test_help_lists_everything_once() -> None:
    """Each skill and each command has its line in both languages."""
    for language in ("en", "zh"):
        lines = ROUTER.describe(language)
        assert len(lines) == len(set(lines)) == len(ROUTER.skills) + len(ROUTER.commands)
        assert all(line.startswith("/") for line in lines)


@given(st.text(max_size=100))
def test_any_text_is_routed(text: str) -> None:
    """Whatever is written, somebody answers; a text that is no command arrives whole."""
    route = ROUTER.route(text)
    if parse_command(text) is None:
        assert isinstance(route, SkillRoute)
        assert route.argument == text


def message(text: str, sender: str = "ada", *, is_forward: bool = False) -> IncomingMessage:
    return IncomingMessage(ConversationKey("test", "bot", "1"), Sender(sender), text, is_private=False, is_forward=is_forward)


def test_bursts() -> None:
    """Messages of one person in a row are one turn; another person or a command begins the next."""
    texts = [
        message(text, sender) for text, sender in (("a", "ada"), ("b", "ada"), ("c", "bob"), ("/help", "bob"), ("d", "bob"), ("e", "bob"))
    ]
    assert [[one.text for one in burst] for burst in split_bursts(texts)] == [["a", "b"], ["c"], ["/help"], ["d", "e"]]
    assert split_bursts([]) == []


@given(st.lists(st.tuples(st.sampled_from(["hi", "/new", "/tr x", "ok"]), st.sampled_from(["ada", "bob"])), max_size=12))
def test_no_message_is_lost_in_bursts(written: list[tuple[str, str]]) -> None:
    """Bursts hold every message once, in order, none of them empty, and a command only alone."""
    messages = [message(text, sender) for text, sender in written]
    bursts = split_bursts(messages)
    assert [one for burst in bursts for one in burst] == messages
    assert all(len(burst) == 1 or not any(one.text.startswith("/") for one in burst) for burst in bursts)
    assert all(len({one.sender.external_id for one in burst}) == 1 for burst in bursts)


def test_a_forward_joins_the_command_that_wants_a_text() -> None:
    """Two messages, whichever comes first; a third one is a turn of its own."""
    story, command = message("a story", is_forward=True), message("/summarize")
    assert split_bursts([command, story, message("c")]) == [(command, story), (message("c"),)]
    assert split_bursts([story, command, story]) == [(story, command), (story,)]


def test_commands_on_a_text_are_skills() -> None:
    """Each of them exists, and none is a direct command, which would answer without looking at the forward."""
    routes = [ROUTER.route(f"/{name}") for name in ON_A_TEXT]
    assert all(isinstance(route, SkillRoute) for route in routes)
