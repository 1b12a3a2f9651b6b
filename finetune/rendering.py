"""A sample as token ids and loss mask: by the way of a turn of the chat, so that what is trained is what is served.

    sample ─► SkillInput ─► Skill.plan ─► PromptBuilder.build ─► the messages of the prompt
           ─► the same messages with the reply ─► ChatTemplate.render_chat ─► ids, loss mask

Skill, context and budget are those of the chat; nothing here knows what stands in a prompt. A dialogue is one row: its old
turns are the history of its last, and every reply in it is learned. Some templates write an old reply otherwise than the
one that is asked for (Qwen3 puts an empty thought before the last one only): there, each turn is a row of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from dialogue.budget import Limits
from dialogue.chat_template import ChatTemplate
from dialogue.config import DialogueConfig
from dialogue.errors import RequestTooLong, TemplateError
from dialogue.messages import ChatMessage, Role
from dialogue.prompt import Context, Prompt, PromptBuilder
from dialogue.skills.base import PromptPlan, Refusal, Skill, SkillInput
from dialogue.skills.registry import load_skills
from dialogue.tokenizer import Tokenizer
from finetune.samples import Sample
from storage.records import TurnRecord, TurnStatus

_FIRST_DAY: Final = date(2024, 1, 1)
_DAYS: Final = 3 * 365


class Unrenderable(ValueError):
    """A sample that has no row. `str(error)` is a short lower-case reason that samples are counted by."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a model is trained on."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]  # as long as `ids`: True where the loss counts the prediction of that token

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.loss_mask)


@dataclass(frozen=True, slots=True)
class RowRenderer:
    """Renders samples for one model. Its parts are those of the chat."""

    template: ChatTemplate
    tokenizer: Tokenizer
    skills: Mapping[str, Skill]
    builder: PromptBuilder
    joins_turns: bool  # whether all replies of a dialogue can be learned in one row

    def plan(self, sample: Sample) -> PromptPlan:
        """Return the plan of the sample's last turn. Raises Unrenderable."""
        skill = self.skills.get(sample.skill)
        if skill is None:
            raise Unrenderable(f"no skill {sample.skill!r}")
        plan = skill.plan(skill_input(sample))
        if isinstance(plan, Refusal):
            raise Unrenderable("refused by its skill")
        return plan

    def prompt(self, sample: Sample) -> Prompt:
        """Return the prompt that the chat would make for the sample's last turn. Raises Unrenderable when that would lose something."""
        try:
            prompt = self.builder.build(self.plan(sample), Context(history(sample), today=day_of(sample)))
        except RequestTooLong:
            raise Unrenderable("too long") from None
        if prompt.dropped or prompt.left_out or len(prompt.passages) < len(sample.passages):
            raise Unrenderable("too long")
        return prompt

    def row(self, sample: Sample) -> Row:
        """Return the row of the sample's last turn; the replies before it are trained too where they can be. Raises Unrenderable."""
        prompt = self.prompt(sample)
        reply = ChatMessage(Role.ASSISTANT, sample.answer)
        rendered = self.template.render_chat([*prompt.messages, reply], add_generation_prompt=False)
        if len(rendered.ids) > self.builder.limits.context:
            raise Unrenderable("too long")
        if self.joins_turns:
            return Row(rendered.ids, rendered.loss_mask)
        start = len(prompt.ids)
        return Row(rendered.ids, (*(False for _ in prompt.ids), *rendered.loss_mask[start:]))

    def rows(self, sample: Sample) -> tuple[Row, ...]:
        """Return the rows in which every reply of the sample is trained once. Raises Unrenderable."""
        if self.joins_turns:
            return (self.row(sample),)
        ends = range(2, len(sample.turns) + 1, 2)
        return tuple(self.row(_piece(sample, 0, end)) for end in ends)


class _RowLimits(Limits):
    """A row is shorter than the context of the chat, so passages of which the chat takes a quarter may fill more of a row."""

    @property
    def passages(self) -> int:
        """Of all passages together."""
        return self.context


def build_renderer(template: ChatTemplate, tokenizer: Tokenizer, config: DialogueConfig, row_tokens: int) -> RowRenderer:
    """Return the renderer of a model for rows of at most `row_tokens` tokens.

    Raises TemplateError when the model's template writes a reply otherwise than it asks for it.
    """
    limits = _RowLimits(context=row_tokens, reply=min(config.max_reply_tokens, row_tokens // 4), history=row_tokens)
    builder = PromptBuilder(template, lambda text: len(tokenizer.encode(text)), limits)
    return RowRenderer(template, tokenizer, load_skills(config, installed=()), builder, _joins_turns(template))


def _joins_turns(template: ChatTemplate) -> bool:
    """Whether a chat of two turns begins with what the chat sends to have its first reply made. Raises TemplateError."""
    roles = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER, Role.ASSISTANT)
    chat = [ChatMessage(role, f"probe {number}") for number, role in enumerate(roles)]
    whole = template.render_chat(chat, add_generation_prompt=False).ids
    asked = [template.render_chat(chat[:length]).ids for length in (2, 4)]
    if whole[: len(asked[1])] != asked[1]:
        raise TemplateError("The chat template writes a reply otherwise than it asks for it, so nothing can be trained with it.")
    return whole[: len(asked[0])] == asked[0]


def skill_input(sample: Sample) -> SkillInput:
    """Return what a skill would know about the sample's last message, in a private chat with a person it knows nothing of."""
    return SkillInput(text=sample.question, language=sample.language, history=history(sample), passages=sample.passages)


def history(sample: Sample) -> tuple[TurnRecord, ...]:
    """Return the turns before the last one as the database would give them."""
    pairs = zip(sample.turns[:-2:2], sample.turns[1:-2:2], strict=True)
    return tuple(_turn(sample, seq, user, reply) for seq, (user, reply) in enumerate(pairs, start=1))


def _turn(sample: Sample, seq: int, user: ChatMessage, reply: ChatMessage) -> TurnRecord:
    return TurnRecord(
        id=f"{sample.id}#{seq}",
        conversation_id=sample.group,
        seq=seq,
        user_id="",
        skill=sample.skill,
        status=TurnStatus.ANSWERED,
        user_text=user.content,
        reply_text=reply.content,
        engine="",
        adapter="",
        prompt_tokens=0,
        completion_tokens=0,
        created_at=0,
    )


def day_of(sample: Sample) -> date:
    """Return the day on which the sample takes place, for prompts that speak of time: any, but always the same one."""
    number = int.from_bytes(hashlib.sha256(sample.id.encode()).digest()[:4], "big")
    return _FIRST_DAY + timedelta(days=number % _DAYS)


def windows(sample: Sample, renderer: RowRenderer) -> Sequence[Sample]:
    """Cut a dialogue that is too long for one row at the borders of turns; what does not even fit alone is left out.

    A dialogue that fits is returned as it is. Passages stay with the last turn.
    """
    pieces: list[Sample] = []
    start = 0
    while start < len(sample.turns):
        for end in range(len(sample.turns), start, -2):
            piece = _piece(sample, start, end)
            if _fits(piece, renderer):
                pieces.append(piece)
                break
        else:
            end = start + 2
        start = end
    return pieces


def _piece(sample: Sample, start: int, end: int) -> Sample:
    if (start, end) == (0, len(sample.turns)):
        return sample
    is_last = end == len(sample.turns)
    passages, answer = (sample.passages, sample.answer_passage) if is_last else ((), 0)
    return replace(sample, id=f"{sample.id}@{start // 2}", turns=sample.turns[start:end], passages=passages, answer_passage=answer)


def _fits(sample: Sample, renderer: RowRenderer) -> bool:
    try:
        renderer.row(sample)
    except Unrenderable:
        return False
    return True
