"""From a skill's plan to the token ids of its prompt. Pure; knows no engine and no database.

The sections stand in this order, because an engine computes anew only what follows the first change:

    system      the skill's words and the owner's instructions      changes with the skill
                the user's profile                                  changes with /remember and the like
                the rolling summary                                 changes when the history is cut
    history     old turns, oldest first                             only grows, until it is cut (see `budget`)
    message     what the user wrote now
                the quoted message, passages, today's date          in this prompt only
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

from dialogue.budget import Limits, Measure, cut_history, shorten, take_while_fits
from dialogue.errors import RequestTooLong
from dialogue.messages import ChatMessage, Role
from dialogue.normalise import strip_invisible
from dialogue.skills.base import Passage, PromptPlan, shown_reply
from dialogue.skills.languages import language_name
from dialogue.skills.texts import paragraphs, prompt_lines, prompt_text
from dialogue.words import assistant_language
from storage.records import ProfileRecord, TurnRecord

_WEEKDAYS: Final = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
}
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


class Rendered(Protocol):
    """Token ids of a chat."""

    @property
    def ids(self) -> tuple[int, ...]: ...


class Template(Protocol):
    """What turns messages into token ids; `dialogue.chat_template.ChatTemplate` is the real one."""

    def render_chat(self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool = True) -> Rendered: ...


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a prompt as text, for people who want to know what an answer was made of."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that fits, and what had to be left out for it."""

    ids: tuple[int, ...]  # of `messages`, up to where the assistant begins to speak
    messages: tuple[ChatMessage, ...]
    sections: tuple[Section, ...]
    reply_tokens: int  # how long the reply may get
    dropped: tuple[TurnRecord, ...] = ()  # old turns that stand in this and later prompts no more
    window_start: int | None = None  # seq of the first turn that still does; None = nothing was dropped
    left_out: int = 0  # characters of the user's message that were left out
    passages: tuple[Passage, ...] = ()  # those that stand in it, best first
    decoder_ids: tuple[int, ...] = ()  # encoder–decoders only: what the reply begins with


@dataclass(frozen=True, slots=True)
class Context:
    """What stands in a prompt beside the plan."""

    turns: tuple[TurnRecord, ...] = ()  # the window, oldest first
    summary: str = ""  # of what was cut before the window
    today: date | None = None


class PromptBuilder:
    """Builds prompts for one model: its template, its tokenizer and its limits."""

    def __init__(self, template: Template, measure: Measure, limits: Limits) -> None:
        self._template = template
        self._measure = measure
        self.limits = limits
        self._per_message = self._measure_structure()

    def build(self, plan: PromptPlan, context: Context = Context()) -> Prompt:
        """Return the prompt of this plan. Raises RequestTooLong when system and message alone do not fit."""
        slack = 0
        while True:
            prompt, kept = self._fit(plan, context, slack)
            excess = len(prompt.ids) + prompt.reply_tokens - self.limits.context
            if excess <= 0:
                return prompt
            if not kept:
                raise RequestTooLong(f"The prompt of {len(prompt.ids)} tokens and its reply do not fit into {self.limits.context}.")
            slack += excess  # the measure of single texts was below that of the whole

    def _fit(self, plan: PromptPlan, context: Context, slack: int) -> tuple[Prompt, int]:
        """Return a prompt and how many old turns stand in it."""
        reply = self.limits.reply_for(plan.sampling.max_tokens)
        system = self._system(plan, context)
        room = self.limits.context - reply - slack - self._tokens(system) - 3 * self._per_message
        extras, passages = self._extras(plan, context)
        room -= self._tokens(extras)
        message, left_out = self._shorten(plan.user_text, min(room, self.limits.message) if plan.history else room, plan.language)
        room -= self._tokens([Section("message", message)])
        turns = context.turns if plan.history else ()
        cut = cut_history([self._size(turn, plan.language) for turn in turns], self.limits.history, room)
        history, unanswered = self._history(turns[cut:], plan.language)
        last = paragraphs([*unanswered, message, *(section.text for section in extras)])
        messages = (ChatMessage(Role.SYSTEM, paragraphs(s.text for s in system)), *history, ChatMessage(Role.USER, last))
        sections = (*system, *(Section(m.role.value, m.content) for m in history), *(Section("message", text) for text in unanswered))
        prompt = Prompt(
            ids=tuple(self._template.render_chat(messages).ids),
            messages=messages,
            sections=(*sections, Section("message", message), *extras),
            reply_tokens=reply,
            dropped=turns[:cut],
            window_start=turns[cut - 1].seq + 1 if cut else None,
            left_out=left_out,
            passages=passages,
        )
        return prompt, len(turns) - cut

    def _system(self, plan: PromptPlan, context: Context) -> list[Section]:
        profile = "" if plan.profile is None else self._profile(plan.profile, plan.language)
        summary = prompt_text("summary", plan.language, summary=context.summary) if context.summary and plan.history else ""
        sections = [Section("system", plan.system), Section("profile", profile), Section("summary", summary)]
        return [section for section in sections if section.text]

    def _profile(self, profile: ProfileRecord, language: str) -> str:
        fitting = take_while_fits(profile.notes[::-1], self.limits.notes, self._measure)
        values = {
            "name": [profile.name] if profile.name else [],
            "language": [language_name(profile.language, language)] if profile.language else [],
            "tone": [profile.tone] if profile.tone else [],
            "note": profile.notes[len(profile.notes) - fitting :],
        }
        return prompt_lines("profile", language, values) if any(values.values()) else ""

    def _extras(self, plan: PromptPlan, context: Context) -> tuple[list[Section], tuple[Passage, ...]]:
        """Return what follows the user's text in this prompt only, and the passages among it."""
        language = plan.language
        extras: list[Section] = []
        if plan.quoted_text.strip():
            quote, _ = self._shorten(plan.quoted_text, self.limits.quote, language)
            extras.append(Section("quote", prompt_text("quote", language, quote=quote)))
        texts = [_passage_text(number, passage) for number, passage in enumerate(plan.passages, start=1)]
        fitting = take_while_fits(texts, self.limits.passages, self._measure)
        if fitting:
            extras.append(Section("passages", prompt_text("passages", language, passages="\n".join(texts[:fitting]))))
        if plan.wants_date and context.today is not None:
            extras.append(Section("date", prompt_text("date", language, date=spoken_date(context.today, language))))
        return extras, plan.passages[:fitting]

    def _history(self, turns: Sequence[TurnRecord], language: str) -> tuple[list[ChatMessage], list[str]]:
        """Return old turns as messages, and the texts at the end that nobody answered: they belong to the next message."""
        messages: list[ChatMessage] = []
        unanswered: list[str] = []
        for turn in turns:
            unanswered.append(self._shorten(turn.user_text, self.limits.message, language)[0])
            reply = shown_reply(turn)
            if reply:
                messages.append(ChatMessage(Role.USER, paragraphs(unanswered)))
                messages.append(ChatMessage(Role.ASSISTANT, self._shorten(reply, self.limits.message, language)[0]))
                unanswered = []
        return messages, unanswered

    def _shorten(self, text: str, limit: int, language: str) -> tuple[str, int]:
        def note(count: int) -> str:
            return "\n" + prompt_text("left_out", language, count=count) + "\n"

        return shorten(strip_invisible(text).strip(), limit, self._measure, note)

    def _size(self, turn: TurnRecord, language: str) -> int:
        texts = (self._shorten(text, self.limits.message, language)[0] for text in (turn.user_text, shown_reply(turn)) if text)
        return sum(self._measure(text) + self._per_message for text in texts)

    def _tokens(self, sections: Sequence[Section]) -> int:
        return sum(self._measure("\n\n" + section.text) for section in sections)

    def _measure_structure(self) -> int:
        """Return the most tokens that the template puts around one message, its part of a beginning included."""
        roles = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER)
        ids = self._template.render_chat([ChatMessage(role, "x") for role in roles]).ids
        return -(-(len(ids) - len(roles) * self._measure("x")) // len(roles)) + 1


def _passage_text(number: int, passage: Passage) -> str:
    return f"[{number}] {passage.title or passage.source}\n{strip_invisible(passage.text).strip()}"


def spoken_date(day: date, language: str) -> str:
    """Return a date in words, the same on every machine: the system's locale has no part in it."""
    weekday = _WEEKDAYS[assistant_language(language)][day.weekday()]
    if assistant_language(language) == "zh":
        return f"{day.year}年{day.month}月{day.day}日，{weekday}"
    return f"{weekday}, {day.day} {_MONTHS[day.month - 1]} {day.year}"
