"""What a skill is: a pure function from what is known about a message to a plan of its prompt.

A skill knows no engine, no tokens and no database. `prompt.py` turns its plan into token ids, `manager.py` runs it.
A skill of an owner is one file with a class like those beside this one, named in the entry-point group `kefu.skills`.
"""

from dataclasses import dataclass
from typing import Protocol

from storage.records import ProfileRecord, TurnRecord, TurnStatus


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that an answer may rest on."""

    text: str
    source: str  # where it can be read again: a URL or a file name
    title: str = ""


@dataclass(frozen=True, slots=True)
class SkillInput:
    """Everything that a skill may know about a message."""

    text: str  # what the user wrote, without the command that chose the skill
    language: str  # IETF tag of the user's language; never empty
    quoted_text: str = ""  # the message that this one replies to
    profile: ProfileRecord | None = None  # always None in groups
    history: tuple[TurnRecord, ...] = ()  # the window of this conversation, oldest first
    summary: str = ""  # of what was said before the window; "" = nothing was, or nobody summarised it
    conversation_is_private: bool = True
    passages: tuple[Passage, ...] = ()  # best first; only for skills that retrieve


def shown_reply(turn: TurnRecord) -> str:
    """Return the reply as later prompts show it: excuses are none, so the question stays open for the next turn."""
    return "" if turn.status is TurnStatus.FAILED else turn.reply_text


@dataclass(frozen=True, slots=True)
class SamplingChange:
    """What a skill wants otherwise than the owner's settings; None = as set."""

    temperature: float | None = None
    max_tokens: int | None = None  # a wish: the context may allow less


@dataclass(frozen=True, slots=True)
class TaskFields:
    """The parts of a task kept apart, for engines that are no chat models (encoder–decoders)."""

    instruction: str
    source_text: str
    source_language: str = ""  # IETF primary tag; "" = unknown
    target_language: str = ""


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """What shall stand in the prompt, before it is fitted into the token budget."""

    system: str  # the skill's own words and the owner's instructions
    user_text: str  # the last user message; stands in later prompts too
    language: str = "en"  # of the assistant's own words in the prompt
    history: bool = True  # whether old turns and the rolling summary stand in the prompt
    profile: ProfileRecord | None = None  # who the user is; only what the skill was given
    quoted_text: str = ""  # stands after the user's text, in this prompt only
    passages: tuple[Passage, ...] = ()  # best first; stand after the user's text, in this prompt only
    wants_date: bool = False  # whether today's date stands at the end, in this prompt only
    sampling: SamplingChange = SamplingChange()
    fields: TaskFields | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The skill cannot do anything with this message; the text says to the user why and how it would work."""

    text: str


class Skill(Protocol):
    """One way of answering."""

    @property
    def name(self) -> str:
        """Unique; recorded with each turn."""
        ...

    @property
    def commands(self) -> tuple[str, ...]:
        """Words that choose this skill when they follow a slash; the first one is shown in help."""
        ...

    @property
    def sticky(self) -> bool:
        """Whether its command chooses it for the whole conversation, not only for one message."""
        ...

    @property
    def retrieves(self) -> bool:
        """Whether passages shall be searched for its messages."""
        ...

    def describe(self, language: str) -> str:
        """One line for help, in the user's language."""
        ...

    def plan(self, given: SkillInput) -> PromptPlan | Refusal:
        """Say what shall stand in the prompt. Pure: equal input, equal plan."""
        ...
