"""From a skill's plan to the token ids of an encoder–decoder: no chat, only the task that the plan names. Pure.

TaskFields: text, source and target language ─► the model's own codec ─► ids of the encoder, beginning of the reply
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dialogue.budget import shorten
from dialogue.errors import RequestTooLong, TaskUnsupported
from dialogue.normalise import strip_invisible
from dialogue.prompt import Context, Prompt, Section
from dialogue.skills.base import PromptPlan, TaskFields
from dialogue.skills.languages import Detector, detect_language

_GAP: Final = " … "  # stands where the middle of a text that is to be summarised was left out


class EncodedTask(Protocol):
    """A task as a model takes it."""

    @property
    def ids(self) -> tuple[int, ...]: ...

    @property
    def decoder_ids(self) -> tuple[int, ...]:
        """What the reply begins with, the start token included."""
        ...


class TaskCodec(Protocol):
    """What writes tasks for one model; `dialogue.engine.local.seq2seq_codec.Seq2SeqCodec` is the real one."""

    @property
    def sha256(self) -> str: ...

    @property
    def layout_sha256(self) -> str: ...

    @property
    def positions(self) -> int | None:
        """Tokens that fit on each side; None = no limit but the context."""
        ...

    def encode(self, text: str) -> Sequence[int]: ...

    def translate(self, text: str, source: str, target: str) -> EncodedTask:
        """Raises TaskUnsupported."""
        ...

    def summarise(self, text: str, language: str) -> EncodedTask:
        """Raises TaskUnsupported."""
        ...


@dataclass(frozen=True, slots=True)
class TaskPromptBuilder:
    """Builds prompts for one encoder–decoder."""

    codec: TaskCodec
    context: int  # tokens of source and reply together
    detect: Detector = detect_language

    def build(self, plan: PromptPlan, context: Context | None = None) -> Prompt:  # noqa: ARG002 - a task has no context
        """Return the prompt of a plan that names a task. Raises RequestTooLong and TaskUnsupported."""
        if plan.fields is None:
            raise TaskUnsupported("This model takes single tasks, and the skill's plan names none.")
        side = self.codec.positions or self.context // 2
        text = strip_invisible(plan.fields.source_text).strip()
        encoded, left_out = self._translation(text, plan.fields) if plan.fields.target_language else self._summary(text, side)
        if len(encoded.ids) > side:
            raise RequestTooLong(f"The text has {len(encoded.ids)} tokens; the model reads {side} at once.")
        reply = side - max(0, len(encoded.decoder_ids) - 1)
        return Prompt(
            ids=encoded.ids,
            messages=(),
            sections=(Section("instruction", plan.fields.instruction), Section("message", text)),
            reply_tokens=min(plan.sampling.max_tokens or reply, reply),
            left_out=left_out,
            decoder_ids=encoded.decoder_ids,
        )

    def _translation(self, text: str, fields: TaskFields) -> tuple[EncodedTask, int]:
        """A translation is whole or refused: half a text would be passed on as a whole one."""
        return self.codec.translate(text, fields.source_language, fields.target_language), 0

    def _summary(self, text: str, side: int) -> tuple[EncodedTask, int]:
        language = self.detect(text) or ""
        around = len(self.codec.summarise("", language).ids)
        fitting, left_out = shorten(text, side - around, lambda part: len(self.codec.encode(part)), lambda _: _GAP)
        return self.codec.summarise(fitting, language), left_out
