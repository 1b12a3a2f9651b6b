"""Summarise a text, the message that is answered to, or the conversation itself: `/summarize [LENGTH] [TEXT]`."""

import re
from collections.abc import Sequence
from typing import Final

from dialogue.config import DialogueConfig
from dialogue.skills.base import PromptPlan, Refusal, SamplingChange, SkillInput, TaskFields, shown_reply
from dialogue.skills.texts import as_data, paragraphs, prompt_text
from dialogue.words import assistant_language, say
from storage.records import TurnRecord

TEMPERATURE: Final = 0.3

_LENGTHS: Final = {
    "en": {"short": "at most 3 sentences", "medium": "about 5 sentences", "long": "about 10 sentences"},
    "zh": {"short": "不超过三句话", "medium": "大约五句话", "long": "大约十句话"},
}
_LENGTH_NAMES: Final = {
    "short": "short", "brief": "short", "medium": "medium", "long": "long", "detailed": "long",
    "简短": "short", "短": "short", "中等": "medium", "长": "long", "详细": "long",
}  # fmt: skip
_NAMED: Final = re.compile(
    r"(?:length\s*=\s*|长度\s*[=：:]\s*)?(short|brief|medium|long|detailed|简短|短|中等|长|详细)(?:[:：]|\s|$)\s*", re.IGNORECASE
)
_COUNTED: Final = re.compile(
    r"(?:in\s+)?(\d{1,4}|one|two|three|four|five|ten)\s*"
    r"(sentences?|words?|bullet points?|bullets?|points?|paragraphs?|lines?)(?:[:：]|\s|$)\s*",
    re.IGNORECASE,
)
_COUNTED_CHINESE: Final = re.compile(r"用?(\d{1,4}|[一二两三四五六七八九十百]{1,3})个?(句话|句|字|段|点|行)(?:[:：]|\s|$)\s*")
_SPEAKERS: Final = {"en": ("User", "Assistant"), "zh": ("用户", "助手")}


def parse_length(argument: str, language: str) -> tuple[str, str]:
    """Return the wanted length as words for the prompt, and the rest of the argument. Without one: short."""
    words = _LENGTHS[assistant_language(language)]
    text = argument.strip()
    for counted in (_COUNTED, _COUNTED_CHINESE):
        match = counted.match(text)
        if match:
            space = " " if counted is _COUNTED else ""
            return f"{match[1]}{space}{match[2]}", text[match.end() :]
    match = _NAMED.match(text)
    if match:
        return words[_LENGTH_NAMES[match[1].lower()]], text[match.end() :]
    return words["short"], text


def transcript(turns: Sequence[TurnRecord], language: str) -> str:
    """Return turns as lines that name the speaker; what was not answered has no second line."""
    user, assistant = _SPEAKERS[assistant_language(language)]
    lines: list[str] = []
    for turn in turns:
        lines.append(f"{user}: {turn.user_text}")
        if reply := shown_reply(turn):
            lines.append(f"{assistant}: {reply}")
    return "\n".join(lines)


class SummarizeSkill:
    """Summarises one text; old turns are in the prompt only when they are that text."""

    name = "summarize"
    commands = ("summarize", "summarise", "sum")
    sticky = False
    retrieves = False

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config

    def describe(self, language: str) -> str:
        return say("skill_summarize", language)

    def plan(self, given: SkillInput) -> PromptPlan | Refusal:
        length, rest = parse_length(given.text, given.language)
        text = rest.strip() or given.quoted_text.strip()
        task = prompt_text("summarize_text" if text else "summarize_talk", given.language)
        text = text or paragraphs([given.summary, transcript(given.history, given.language)])
        if not text:
            return Refusal(say("summarize_usage", given.language))
        return PromptPlan(
            system=prompt_text("summarize", given.language, length=length),
            user_text=f"{task}\n{as_data(text)}",
            language=given.language,
            history=False,
            sampling=SamplingChange(temperature=min(TEMPERATURE, self._config.temperature)),
            fields=TaskFields(f"{task} {length}", text),
        )
