"""What a turn ends with, before it is recorded: words, status and everything that is kept with it. Pure."""

import math
from dataclasses import dataclass, field, replace
from typing import Final

from dialogue.document import TurnDocument, encode
from dialogue.draft import Draft
from dialogue.errors import DeadlineExceeded, EngineError, EngineOverloaded, RequestPoisoned, RequestTooLong, TaskUnsupported
from dialogue.extras import ReplyExtras
from dialogue.generation import Outcome
from dialogue.messages import ReplyTimings
from dialogue.prompt import Prompt
from dialogue.router import CommandReply, Effect, SkillRoute
from dialogue.skills.languages import language_name
from dialogue.words import say
from storage.records import TurnStatus

_SENTENCES: Final[dict[type[EngineError], str]] = {
    DeadlineExceeded: "deadline",
    EngineOverloaded: "overloaded",
    RequestPoisoned: "poisoned",
    RequestTooLong: "too_long",
}
_KEPT_OUT: Final = (RequestPoisoned, RequestTooLong)  # the text itself is the trouble: it must not come back with the next prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a turn."""

    text: str | None  # None = nothing is to be said
    status: TurnStatus = TurnStatus.ANSWERED
    skill: str = ""  # "" = a command
    in_history: bool = True
    engine: str = ""  # "" = canned
    adapter: str = ""
    document: bytes = b""
    window_start: int | None = None
    summary: str | None = None
    sticky_skill: str | None = None
    effect: Effect | None = None
    extras: ReplyExtras = field(default_factory=ReplyExtras)
    timings: ReplyTimings = field(default_factory=ReplyTimings)


def silence() -> Answer:
    """A person has the conversation: the message is recorded, nothing is said."""
    return Answer(None, TurnStatus.UNANSWERED)


def of_command(reply: CommandReply) -> Answer:
    """What a command says and does."""
    return Answer(reply.text, in_history=reply.in_history, sticky_skill=reply.sticky_skill, effect=reply.effect, extras=reply.extras)


def unread(key: str, language: str) -> Answer:
    """There was nothing in the messages that can be read."""
    return Answer(say(key, language), in_history=False)


def refused(text: str, route: SkillRoute) -> Answer:
    """A skill could not do anything with the message and says how it would work."""
    return Answer(text, skill=route.skill.name, in_history=False, sticky_skill=route.sticky_skill)


def excused(error: RequestTooLong | TaskUnsupported, route: SkillRoute, language: str) -> Answer:
    """No prompt could be made of the message."""
    if isinstance(error, TaskUnsupported):
        return refused(unsupported(error, language), route)
    words = excuse(error, language)
    return Answer(words, TurnStatus.FAILED, skill=route.skill.name, in_history=False, sticky_skill=route.sticky_skill)


def said(draft: Draft, outcome: Outcome) -> Answer:
    """What was generated, with the document that says how."""
    outcome = replace(outcome, timings=_counted(draft, outcome))
    by_model = outcome.text and outcome.error is None
    return Answer(
        text=reply_text(outcome, draft.prompt, draft.language),
        status=status_of(outcome),
        skill=draft.route.skill.name,
        in_history=not isinstance(outcome.error, _KEPT_OUT),
        engine=draft.model.label if by_model else "",
        adapter=draft.request.adapter or "" if by_model else "",
        document=encode(_document(draft, outcome)),
        window_start=draft.prompt.window_start,
        summary=draft.summary,
        sticky_skill=draft.route.sticky_skill,
        extras=ReplyExtras(is_rateable=bool(by_model) and status_of(outcome) is TurnStatus.ANSWERED),
        timings=outcome.timings,
    )


def _counted(draft: Draft, outcome: Outcome) -> ReplyTimings:
    """Return the timings; an engine that was stopped did not say how many tokens it made, so they are counted from the text."""
    if outcome.finished is not None or not outcome.text:
        return outcome.timings
    return replace(outcome.timings, completion_tokens=draft.model.count(outcome.text))


def _document(draft: Draft, outcome: Outcome) -> TurnDocument:
    request, model = draft.request, draft.model
    return TurnDocument(
        turn_id=request.request_id,
        skill=draft.route.skill.name,
        prompt=request.prompt,
        decoder_prompt=request.decoder_prompt,
        sampling=request.sampling,
        engine=model.info.engine,
        model=model.info.model,
        adapter=request.adapter,
        hashes=model.hashes,
        sections=draft.prompt.sections,
        passages=draft.prompt.passages,
        timings=outcome.timings,
        attempts=outcome.attempts,
        reason=outcome.reason,
    )


def unsupported(error: TaskUnsupported, language: str) -> str:
    """Return what the user is told when the model of a skill cannot do what was asked for."""
    if not error.target:
        return say("task_unsupported", language)
    if not error.source:
        return say("source_unknown", language)
    return say("pair_unsupported", language, source=language_name(error.source, language), target=language_name(error.target, language))


def excuse(error: EngineError, language: str) -> str:
    """Return what the user is told when a generation failed."""
    sentence = next((sentence for kind, sentence in _SENTENCES.items() if isinstance(error, kind)), "unavailable")
    seconds = math.ceil(error.retry_after_s) if isinstance(error, EngineOverloaded) else 0
    return say(sentence, language, seconds=max(1, seconds))


def reply_text(outcome: Outcome, prompt: Prompt, language: str) -> str:
    """Return the final words of a turn that was generated: as far as it came, and what the user has to know about it."""
    notes: list[str] = [] if outcome.error is None else [excuse(outcome.error, language)]
    keeps_text = outcome.error is None or isinstance(outcome.error, DeadlineExceeded)
    text = outcome.text if keeps_text else ""
    if not text and not notes:
        text = say("stopped" if outcome.stopped else "no_answer", language)
    if prompt.left_out and outcome.finished is not None:
        notes.append(say("shortened", language, count=prompt.left_out))
    return "\n\n".join(part for part in (text, *notes) if part)


def status_of(outcome: Outcome) -> TurnStatus:
    """Return how the turn counts: an answer needs words of the model."""
    if outcome.stopped:
        return TurnStatus.STOPPED
    return TurnStatus.ANSWERED if outcome.finished is not None and outcome.text else TurnStatus.FAILED
