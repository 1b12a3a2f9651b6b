"""Rows as samples: each mapping says which columns become what the customer says and what the assistant answers.

    messages      messages, and in each role and content                a dialogue; a list of plain texts alternates
    transcript    transcript: one line a turn, "user: …"                a dialogue
    pairs         question, input, answer                               one question, one answer
    summary       document, summary                                     for the skill summarize
    translation   source, target, direction: "en>de"                    for the skill translate
    writing       text, and facts or topic, and kind                    for the skill write
    articles      article, title, heading, body, url                    sections of help articles: see finetune.sources.grounded
    own_turns     needs no columns                                      see finetune.sources.own_turns

`fields` of a recipe names the column of each where `columns.COLUMNS` does not know it. A dotted path leads into objects and through
lists ("instances.output"); "=words" are these words themselves. Every mapping takes id, group and language.

    user = "guest, caller"                      further names of speakers; assistant likewise
    user_content = "target"                     where customer and assistant stand in different columns; assistant_content likewise
    "direction agent" = "en>de"                 where the direction depends on what stands in the column `direction`
    conversation = "ticket"                     where each message is a row of its own: see finetune.sources.join

Nothing is cleaned here.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dialogue.messages import ChatMessage, Role
from dialogue.skills.languages import find_language
from finetune.cleaning.text import fold
from finetune.config import SourceSection
from finetune.samples import Kind, Sample
from finetune.sources.columns import Columns, as_text, broadcast
from finetune.sources.facts import checkable, read_slots, say_slots
from finetune.sources.grounded import Article
from finetune.sources.rows import Row
from finetune.sources.speakers import Speakers, read_transcript, speakers

_SKILLS: Final = {"summary": "summarize", "translation": "translate", "writing": "write"}  # whatever the recipe says
_KIND: Final = "text"  # of the skill write
_ABOUT: Final = {"zh": "关于"}


@dataclass(frozen=True, slots=True)
class _Talk:
    """What a mapping makes of a row, or of a part of it."""

    kind: Kind
    turns: tuple[ChatMessage, ...]
    language: str = ""  # where the mapping knows it better than the source
    together: str = ""  # what must stay in one split, where the row does not say; "" = the row alone
    references: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


def map_row(section: SourceSection, row: Row) -> list[Sample]:
    """Return the samples of a row, not cleaned. Raises DataInvalid."""
    columns = Columns(section, row)
    talks = list(_MAPPINGS[section.map](columns))
    number = columns.text("id") or row.key
    language = columns.text("language") or section.language
    group = columns.text("group")
    return [
        Sample(
            id=f"{section.name}:{number}" if len(talks) == 1 else f"{section.name}:{number}.{part}",
            kind=talk.kind,
            skill=_SKILLS.get(section.map, section.skill),
            language=talk.language or language,
            group=f"{section.name}:{group}" if group else talk.together or f"{section.name}:{number}",
            source=section.name,
            turns=talk.turns,
            references=talk.references,
            facts=talk.facts,
            extra=talk.extra,
        )
        for part, talk in enumerate(talks, start=1)
    ]


def map_article(section: SourceSection, row: Row) -> Article:
    """Return the section of a help article that a row holds. Raises DataInvalid."""
    columns = Columns(section, row)
    body, title = as_text(columns.need("body")), columns.text("title")
    return Article(
        id=f"{section.name}:{columns.text('group') or columns.text('article') or title or row.key}",
        title=title,
        heading=columns.text("heading") or title,
        text=body,
        url=columns.text("url"),
        language=columns.text("language") or section.language,
    )


def _messages(columns: Columns) -> Iterator[_Talk]:
    messages = columns.need("messages")
    if not isinstance(messages, list) or not messages:
        raise columns.row.problem("no list of messages", columns.name("messages"))
    if all(isinstance(message, str) for message in messages):
        roles = (Role.USER, Role.ASSISTANT)
        yield _Talk(Kind.DIALOGUE, tuple(ChatMessage(roles[number % 2], text) for number, text in enumerate(messages)))
        return
    known = speakers(columns.section.fields)
    turns = (_message(columns, Row(columns.row.file, columns.row.line, message, ""), known) for message in _objects(columns.row, messages))
    yield _Talk(Kind.DIALOGUE, tuple(turn for turn in turns if turn is not None))


def _objects(row: Row, messages: list[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if not isinstance(message, dict):
            raise row.problem("a message that is no object")
        yield message


def _message(columns: Columns, message: Row, known: Speakers) -> ChatMessage | None:
    inner = Columns(columns.section, message)
    role = _role(as_text(inner.need("role")), known, message)
    if role is None:
        return None
    own = f"{role}_content"
    return ChatMessage(role, as_text(Columns(_renamed(columns.section, own), message).need("content")))


def _renamed(section: SourceSection, own: str) -> SourceSection:
    """Return the section with the content of one role under its own column, if the recipe names one."""
    return section.model_copy(update={"fields": {**section.fields, "content": section.fields[own]}}) if own in section.fields else section


def _role(name: str, known: Speakers, row: Row) -> Role | None:
    try:
        return known.role(name)
    except KeyError:
        raise row.problem("unknown speaker", name[:30]) from None


def _transcript(columns: Columns) -> Iterator[_Talk]:
    turns = tuple(read_transcript(as_text(columns.need("transcript")), speakers(columns.section.fields)))
    if not turns:
        raise columns.row.problem("no speaker found", "lines begin with a name and a colon; fields user and assistant name them")
    yield _Talk(Kind.DIALOGUE, turns)


def _pairs(columns: Columns) -> Iterator[_Talk]:
    inputs = columns.texts("input") if _has_input(columns) else [""]
    for question, more, answer in broadcast(columns.row, columns.texts("question"), inputs, columns.texts("answer")):
        yield _pair(Kind.ANSWER, f"{question}\n\n{more}" if more else question, answer)


def _has_input(columns: Columns) -> bool:
    column = columns.name("input")
    return bool(column) and column != columns.name("question")


def _pair(kind: Kind, question: str, answer: str, **more: Any) -> _Talk:
    turns = (ChatMessage(Role.USER, question), ChatMessage(Role.ASSISTANT, answer))
    return _Talk(kind, turns, together=f"question:{hashlib.sha256(fold(question).encode()).hexdigest()[:16]}", **more)


def _summary(columns: Columns) -> Iterator[_Talk]:
    summaries = columns.texts("summary")
    if not summaries:
        raise columns.row.problem("no summary")
    yield _pair(Kind.SUMMARY, as_text(columns.need("document")), summaries[0], references=tuple(summaries[1:]))


def _translation(columns: Columns) -> Iterator[_Talk]:
    for source, target, said in broadcast(columns.row, columns.texts("source"), columns.texts("target"), columns.texts("direction")):
        direction = columns.section.fields.get(f"direction {said}", said)
        begin, _, end = (part.strip() for part in direction.partition(">"))
        if not find_language(begin) or not find_language(end):
            raise columns.row.problem("unknown direction of translation", direction[:30])
        yield _pair(Kind.TRANSLATION, f"{begin}>{end} {source}" if source else "", target, language=end)


def _writing(columns: Columns) -> Iterator[_Talk]:
    text = as_text(columns.need("text"))
    kind = columns.text("kind") or _KIND
    about = _ABOUT.get(columns.section.language.partition("-")[0], " about ")
    if not columns.name("facts"):
        yield _pair(Kind.WRITING, f"{kind}{about}{as_text(columns.need('topic'))}", text)
        return
    slots = read_slots(columns.need("facts"))
    facts = say_slots(slots)
    yield _pair(Kind.WRITING, f"{kind}{about}{facts}", text, facts=checkable(slots, text), extra={"slots": facts})


_MAPPINGS: Final[dict[str, Callable[[Columns], Iterator[_Talk]]]] = {
    "messages": _messages,
    "own_turns": _messages,
    "transcript": _transcript,
    "pairs": _pairs,
    "summary": _summary,
    "translation": _translation,
    "writing": _writing,
}
