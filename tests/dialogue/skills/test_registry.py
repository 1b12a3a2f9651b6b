"""An owner's skill is one file; a broken one is named."""

from importlib.metadata import EntryPoint

import pytest

from dialogue.config import DialogueConfig
from dialogue.errors import SkillInvalid
from dialogue.skills.base import PromptPlan, SkillInput
from dialogue.skills.registry import GROUP, load_skills

HERE = "tests.dialogue.skills.test_registry"


class OpeningHours:
    """A skill as an owner would write it."""

    name: str = "hours"
    commands: tuple[str, ...] = ("hours",)
    sticky = False
    retrieves = False

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config

    def describe(self, language: str) -> str:
        return "/hours – when we are open"

    def plan(self, given: SkillInput) -> PromptPlan:
        return PromptPlan(system="Say when we are open.", user_text=given.text)


class Namesake(OpeningHours):
    name = "chat"


class CommandThief(OpeningHours):
    commands = ("write",)


class Crashing(OpeningHours):
    def __init__(self, config: DialogueConfig) -> None:
        raise ZeroDivisionError("by design")


class Incomplete:
    name = "incomplete"

    def __init__(self, config: DialogueConfig) -> None:
        pass


def point(name: str) -> EntryPoint:
    return EntryPoint(name.lower(), f"{HERE}:{name}", GROUP)


def test_what_there_is() -> None:
    """The package brings five skills; an installed one stands beside them and may be the default."""
    assert list(load_skills(DialogueConfig(), installed=())) == ["chat", "support", "translate", "summarize", "write"]
    skills = load_skills(DialogueConfig(default_skill="hours"), installed=[point("OpeningHours")])
    assert skills["hours"].commands == ("hours",)


def test_entry_points_are_read() -> None:
    """Without a list, the skills of installed packages are looked up."""
    assert "chat" in load_skills(DialogueConfig())


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("Namesake", "Two skills are called 'chat'"),
        ("CommandThief", "The skills 'write' and 'hours' both want the command /write"),
        ("Crashing", "cannot be loaded: ZeroDivisionError: by design"),
        ("Incomplete", "lacks commands, sticky, retrieves, describe, plan"),
        ("Missing", "cannot be loaded: AttributeError"),
    ],
)
def test_a_broken_skill_is_named(broken: str, sentence: str) -> None:
    """A skill that cannot be used ends in a sentence that says which and why."""
    with pytest.raises(SkillInvalid, match=sentence):
        load_skills(DialogueConfig(), installed=[point(broken)])


def test_a_default_that_does_not_exist() -> None:
    """A default skill that nobody brings is a mistake of the settings."""
    with pytest.raises(SkillInvalid, match="no skill 'hours' to be the default; there are: chat, support"):
        load_skills(DialogueConfig(default_skill="hours"), installed=())
