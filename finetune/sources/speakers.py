"""Who speaks: the names that data sets give to customer and assistant, in lists of turns and in transcripts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dialogue.messages import ChatMessage, Role

_USER: Final = "user usr customer human client caller visitor guest patient member buyer 用户 顾客 客户"
_ASSISTANT: Final = "assistant agent bot chatbot gpt model support operator advisor wizard doctor 客服 助手 系统"
_SILENT: Final = "system developer tool function action observation note"
_NOTHING: Final = "None"  # what Python prints for a turn without words, such as a call of a tool
_SPEAKER: Final = re.compile(r"\s*(?:\*\*)?([^\s:：*][^:：*\n]{0,30}?)(?:\*\*)?\s*[:：](?:\*\*)?\s*(.*)")


@dataclass(frozen=True, slots=True)
class Speakers:
    """Names of speakers, in lower case, and their roles; None = somebody whose words are left out."""

    roles: Mapping[str, Role | None]

    def known(self, name: str) -> bool:
        """Whether anybody is called so."""
        return name.strip().casefold() in self.roles

    def role(self, name: str) -> Role | None:
        """Return the role of a speaker; None when their words are left out. Raises KeyError for a name that nobody has."""
        return self.roles[name.strip().casefold()]


def speakers(fields: Mapping[str, str]) -> Speakers:
    """Return the usual names, and those that the fields `user` and `assistant` of a recipe add, divided by commas."""
    roles: dict[str, Role | None] = dict.fromkeys(_SILENT.split())
    roles |= dict.fromkeys(_USER.split(), Role.USER) | dict.fromkeys(_ASSISTANT.split(), Role.ASSISTANT)
    for role in (Role.USER, Role.ASSISTANT):
        roles |= dict.fromkeys((name.strip().casefold() for name in fields.get(role, "").split(",") if name.strip()), role)
    return Speakers(roles)


def read_transcript(text: str, known: Speakers) -> Iterator[ChatMessage]:
    """Yield the turns of a transcript: a line that begins with a speaker's name and a colon, and the lines that follow."""
    role: Role | None = None
    lines: list[str] = []
    for line in text.splitlines():
        match = _SPEAKER.match(line)
        if match is None or not known.known(match[1]):
            lines.append(line)
            continue
        yield from _turn(role, lines)
        role, lines = known.role(match[1]), [match[2]]
    yield from _turn(role, lines)


def _turn(role: Role | None, lines: list[str]) -> Iterator[ChatMessage]:
    words = "\n".join(lines).strip()
    if role is not None and words != _NOTHING:
        yield ChatMessage(role, words)
