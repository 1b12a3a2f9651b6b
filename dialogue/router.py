"""Who answers a message: command > sticky choice > default.

A command is answered at once, without a generation: its effect and its reply are committed in one transaction. A skill
is chosen for one message by its own command (`/translate …`), or for the conversation when it is sticky (`/support`).
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dialogue.extras import ReplyExtras
from dialogue.messages import Abilities, IncomingMessage
from dialogue.skills.base import Skill
from dialogue.skills.summarize import SummarizeSkill
from dialogue.skills.translate import TranslateSkill
from dialogue.skills.write import WriteSkill
from dialogue.words import say
from storage.records import ConversationRecord, ProfileRecord
from storage.unit_of_work import UnitOfWork

Effect = Callable[[UnitOfWork], Awaitable[None]]

# Commands that work on a text. Beside any other one a forward is a message of its own, or it would stay without an answer.
ON_A_TEXT: Final = frozenset((*SummarizeSkill.commands, *TranslateSkill.commands, *WriteSkill.commands))

_COMMAND: Final = re.compile(r"/([A-Za-z][A-Za-z0-9_]{0,31})(?:@\w{1,64})?(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command may know. In groups `profile` is None: what a person told in private is not for others to see."""

    argument: str  # what follows the command; "" = nothing
    language: str  # IETF tag of the user's language; never empty
    user_id: str
    conversation: ConversationRecord
    messages: tuple[IncomingMessage, ...]
    profile: ProfileRecord | None = None
    abilities: Abilities = field(default_factory=Abilities)


@dataclass(frozen=True, slots=True)
class CommandReply:
    """What a command says and does."""

    text: str
    effect: Effect | None = None  # runs in the transaction of the turn, after it was written; once per turn
    in_history: bool = False  # whether later prompts show it
    sticky_skill: str | None = None  # new sticky choice of the conversation
    extras: ReplyExtras = field(default_factory=ReplyExtras)  # buttons, or a file


class Command(Protocol):
    """A direct answer to `/name`."""

    @property
    def name(self) -> str: ...

    def describe(self, language: str) -> str:
        """One line for help, in the user's language; "" = not shown."""
        ...

    async def run(self, context: CommandContext) -> CommandReply: ...


@dataclass(frozen=True, slots=True)
class CommandRoute:
    """A command answers."""

    command: Command
    argument: str


@dataclass(frozen=True, slots=True)
class SkillRoute:
    """A skill answers."""

    skill: Skill
    argument: str
    sticky_skill: str | None = None  # set when the message also chooses the skill for the conversation


Route = CommandRoute | SkillRoute


@dataclass(frozen=True, slots=True)
class ChooseSkill:
    """`/support` with nothing behind it: chooses the skill and says so."""

    skill: Skill

    @property
    def name(self) -> str:
        return self.skill.name

    def describe(self, language: str) -> str:
        return self.skill.describe(language)

    async def run(self, context: CommandContext) -> CommandReply:
        what = self.skill.describe(context.language)
        return CommandReply(say("skill_chosen", context.language, what=what), sticky_skill=self.skill.name)


@dataclass(frozen=True, slots=True)
class UnknownCommand:
    """A command that does not exist: says what does."""

    name: str
    router: "Router"

    def describe(self, language: str) -> str:  # noqa: ARG002 - a command that is never listed
        return ""

    async def run(self, context: CommandContext) -> CommandReply:
        there_is = "\n".join(self.router.describe(context.language))
        return CommandReply(say("unknown_command", context.language, name=self.name, list=there_is))


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses who answers. `skills` and `commands` by their name; `default_skill` is one of the skills."""

    skills: Mapping[str, Skill]
    commands: Mapping[str, Command]
    default_skill: str
    _skill_commands: Mapping[str, Skill] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_command = {word: skill for skill in self.skills.values() for word in skill.commands}
        object.__setattr__(self, "_skill_commands", by_command)

    def route(self, text: str, sticky_skill: str = "") -> Route:
        """Return who answers `text` in a conversation whose sticky choice is `sticky_skill` ("" = none)."""
        parsed = parse_command(text)
        if parsed is None:
            return SkillRoute(self.skills.get(sticky_skill) or self.skills[self.default_skill], text)
        name, argument = parsed
        command = self.commands.get(name)
        if command is not None:
            return CommandRoute(command, argument)
        skill = self._skill_commands.get(name)
        if skill is None:
            return CommandRoute(UnknownCommand(name, self), argument)
        if not skill.sticky:
            return SkillRoute(skill, argument)
        return SkillRoute(skill, argument, sticky_skill=skill.name) if argument else CommandRoute(ChooseSkill(skill), "")

    def describe(self, language: str) -> list[str]:
        """Return one line for each skill and command, for help."""
        lines = [*(skill.describe(language) for skill in self.skills.values()), *(c.describe(language) for c in self.commands.values())]
        return [line for line in lines if line]


def parse_command(text: str) -> tuple[str, str] | None:
    """Split `/name@bot argument` into the lower-case name and the argument; None when the text is no command."""
    match = _COMMAND.match(text)
    return (match[1].lower(), text[match.end() :].strip()) if match else None


def split_bursts(messages: Sequence[IncomingMessage]) -> list[tuple[IncomingMessage, ...]]:
    """Split what waits in a conversation into turns: messages of one person in a row are one, a command stands alone.

    A command that works on a text and has none, and a forwarded message beside it, belong together: `/summarize` means the forward.
    """
    bursts: list[list[IncomingMessage]] = []
    for message in messages:
        if bursts and _continues(bursts[-1], message):
            bursts[-1].append(message)
        else:
            bursts.append([message])
    return [tuple(burst) for burst in bursts]


def is_about_forward(first: IncomingMessage, second: IncomingMessage) -> bool:
    """Whether one of two messages is a forward and the other a command that wants a text: its own would come first, then a quoted one."""
    forward, command = (first, second) if first.is_forward else (second, first)
    parsed = parse_command(command.text)
    is_about_other = parsed is not None and parsed[0] in ON_A_TEXT and not parsed[1] and not command.quoted_text
    return forward.is_forward and not command.is_forward and is_about_other


def _continues(burst: Sequence[IncomingMessage], message: IncomingMessage) -> bool:
    if burst[-1].sender.external_id != message.sender.external_id:
        return False
    if len(burst) == 1 and is_about_forward(burst[0], message):
        return True
    return not any(parse_command(one.text) for one in (*burst, message))
