"""Messages to token ids by the model's own chat template, so that no content can forge a role.

One renderer serves the chat and the training: the ids and the loss mask come from the same walk.

How a prompt is made:

1. The template runs over the messages with a placeholder for each content, so it writes structure only. Whitespace around
   a content stands around its placeholder, so a template that trims does so here too.
2. Control tokens are searched in what the template wrote, never in a content.
3. What stands between two control tokens, contents included, is one piece of plain text and is encoded as such. That is
   what `apply_chat_template` does as well, so benign chats get the same ids; and plain text never gives a control id.

A template that loses a content, changes it or repeats it is refused when it is loaded. Where a template has no place for a
system message, that message goes in front of the next user message. A template whose turns are marked by words instead of
control tokens gets its contents defused (`dialogue.role_markers`). Content never steers a template: "</think>" in a
message is text.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from dialogue.errors import TemplateError
from dialogue.messages import ChatMessage, Role
from dialogue.role_markers import RoleMarkers
from dialogue.template_sandbox import SandboxedTemplate
from dialogue.tokenizer import Tokenizer
from dialogue.tokenizer_document import ControlToken

_MAX_MESSAGES = 10_000
_NO_VARIABLES: Mapping[str, str | bool] = MappingProxyType({})
# What templates do to a content shows on this one: markup, quotes, blank lines, other scripts.
_PROBE_TEXT = "Probe <b>{0}</b> & 'one' \"two\"\n\n  C:\\d\t{{% x %}} été 客服 {0}"
_PROBE_ROLES = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER)


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A prompt, or a training sample."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]  # as long as `ids`: True where a token is an assistant's content or ends its turn


@dataclass(slots=True)
class _Segment:
    """Plain text between two control tokens."""

    text: str = ""
    replies: tuple[tuple[int, int], ...] = ()  # where assistant contents stand in `text`

    def add(self, text: str, role: Role | None) -> None:
        if role is Role.ASSISTANT and text:
            self.replies = (*self.replies, (len(self.text), len(self.text) + len(text)))
        self.text += text

    def strip(self, *, left: bool, right: bool) -> None:
        """Give whitespace at the ends to the control tokens there."""
        kept = self.text.lstrip() if left else self.text
        shift = len(self.text) - len(kept)
        self.text = kept.rstrip() if right else kept
        self.replies = tuple((max(0, start - shift), max(0, end - shift)) for start, end in self.replies)

    def in_reply(self, span: tuple[int, int]) -> bool:
        start, end = span
        return any(end > first and start < last for first, last in self.replies)


class ChatTemplate:
    """The chat template of one model with its tokenizer. Safe to share between threads."""

    def __init__(
        self,
        source: str,
        tokenizer: Tokenizer,
        *,
        variables: Mapping[str, str | bool] = _NO_VARIABLES,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Compile `source` and try it.

        `variables` are the template's own switches, such as Qwen3's `enable_thinking`; `now` is the local time, for
        templates that write the date.

        Raises TemplateError when it cannot be compiled or does not treat contents as they are.
        """
        self.sha256 = hashlib.sha256(source.encode()).hexdigest()
        self._tokenizer = tokenizer
        self._now = now
        self._template = SandboxedTemplate(source, {**variables, **tokenizer.special.for_template()})
        self._markers: RoleMarkers | None = None
        self._folds_system = False
        try:
            structure = self._probe()
        except TemplateError:
            self._folds_system = True
            structure = self._probe()
        self._markers = self._find_markers(structure)

    @property
    def marks_turns_by_tokens(self) -> bool:
        """Whether control tokens separate the turns. If not, contents are defused."""
        return self._markers is None

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts at which a reply ends besides `Tokenizer.eos_ids`; none where control tokens separate the turns."""
        return () if self._markers is None else self._markers.stop_texts

    def render_chat(self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool = True) -> RenderedChat:
        """Return the ids of a conversation; with `add_generation_prompt` they end where the assistant begins to speak.

        Contents are taken as they are (see `dialogue.normalise` for hygiene). An assistant message of whitespace alone has
        no part in the loss. Raises TemplateError when the template does not take the conversation.
        """
        parts = self._structure(self._fold(messages), self._now(), add_generation_prompt=add_generation_prompt)
        ids: list[int] = []
        mask: list[bool] = []
        for segment, end in self._segments(parts):
            ends_reply = end is not None and end.id in self._tokenizer.eos_ids and bool(segment.replies)
            if ends_reply:  # whatever the template writes before the end token, the model has to write too
                segment.replies = (*segment.replies[:-1], (segment.replies[-1][0], len(segment.text)))
            if segment.text:
                encoded = self._tokenizer.encode_spans(segment.text, at_start=not ids)
                ids += encoded.ids
                mask += map(segment.in_reply, encoded.spans)
            if end is not None:
                ids.append(end.id)
                mask.append(ends_reply)
        return RenderedChat(tuple(ids), tuple(mask))

    def _fold(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """Put system messages in front of the next user message where the template has no place for them."""
        if not self._folds_system:
            return messages
        folded: list[ChatMessage] = []
        waiting: list[str] = []
        for message in messages:
            if message.role is Role.SYSTEM:
                waiting.append(message.content)
            elif message.role is Role.USER:
                folded.append(replace(message, content="\n\n".join((*waiting, message.content))))
                waiting = []
            else:
                folded.append(message)
        return [*folded, *([ChatMessage(Role.USER, "\n\n".join(waiting))] if waiting else [])]

    def _structure(self, messages: Sequence[ChatMessage], moment: datetime, *, add_generation_prompt: bool) -> list[str | ChatMessage]:
        """Return what the template writes, with the stripped message in the place of each content that is not blank."""
        if len(messages) > _MAX_MESSAGES:
            raise TemplateError(f"A prompt takes at most {_MAX_MESSAGES} messages.")
        nonce = f"Kq{secrets.token_hex(16)}"
        bodies = {index: message.content.strip() for index, message in enumerate(messages)}
        masked = [
            ChatMessage(message.role, message.content.replace(bodies[index], f"{nonce}{index}Z", 1) if bodies[index] else message.content)
            for index, message in enumerate(messages)
        ]
        text = self._run(masked, moment, add_generation_prompt=add_generation_prompt)
        pieces = re.split(f"{nonce}([0-9]+)Z", text)
        order = [int(index) for index in pieces[1::2]]
        _check_placeholders(messages, [index for index, body in bodies.items() if body], order)
        if nonce.casefold() in "\0".join(pieces[::2]).casefold():
            raise TemplateError("The chat template changes what people write, so Kefu cannot use it safely.")
        parts: list[str | ChatMessage] = [pieces[0]]
        for index, literal in zip(order, pieces[2::2], strict=True):
            parts += [replace(messages[index], content=self._defuse(bodies[index])), literal]
        return parts

    def _run(self, messages: Sequence[ChatMessage], moment: datetime, *, add_generation_prompt: bool) -> str:
        values = [{"role": message.role.value, "content": message.content} for message in messages]
        return self._template.render(moment, messages=values, tools=None, documents=None, add_generation_prompt=add_generation_prompt)

    def _defuse(self, body: str) -> str:
        return body if self._markers is None else self._markers.defuse(body)

    def _segments(self, parts: Sequence[str | ChatMessage]) -> Iterator[tuple[_Segment, ControlToken | None]]:
        """Yield plain text with the control token that follows it; the last has none."""
        segment = _Segment()
        strip_left = False
        for part in parts:
            for piece in [part] if isinstance(part, ChatMessage) else self._tokenizer.split_control(part):
                if isinstance(piece, ControlToken):
                    segment.strip(left=strip_left, right=piece.strips_left)
                    yield segment, piece
                    segment, strip_left = _Segment(), piece.strips_right
                elif isinstance(piece, ChatMessage):
                    segment.add(piece.content, piece.role)
                else:
                    segment.add(piece, None)
        segment.strip(left=strip_left, right=False)
        yield segment, None

    def _probe(self) -> list[str | ChatMessage]:
        """Run the template over a small chat and return what it wrote. Raises TemplateError when it changes contents."""
        probe = [ChatMessage(role, _PROBE_TEXT.format(number)) for number, role in enumerate(_PROBE_ROLES)]
        messages = self._fold(probe)
        moment = self._now()
        structure = self._structure(messages, moment, add_generation_prompt=True)
        written = "".join(part.content if isinstance(part, ChatMessage) else part for part in structure)
        if written != self._run(messages, moment, add_generation_prompt=True):
            raise TemplateError("The chat template changes what people write, so Kefu cannot use it safely.")
        return structure

    def _find_markers(self, structure: Sequence[str | ChatMessage]) -> RoleMarkers | None:
        """Return the markers of a template that separates turns by words; None when it does so by control tokens."""
        gaps = [
            literal
            for before, literal, after in zip(structure, structure[1:], structure[2:], strict=False)
            if isinstance(before, ChatMessage) and isinstance(literal, str) and isinstance(after, ChatMessage)
            if Role.ASSISTANT in (before.role, after.role)
        ]
        if all(any(isinstance(piece, ControlToken) for piece in self._tokenizer.split_control(gap)) for gap in gaps):
            return None
        if not RoleMarkers(self._words(gaps[:1])).markers:
            raise TemplateError("The chat template does not mark who speaks, so Kefu cannot use it safely.")
        return RoleMarkers(self._words([part for part in structure if isinstance(part, str)]))

    def _words(self, literals: Sequence[str]) -> list[str]:
        return [piece for literal in literals for piece in self._tokenizer.split_control(literal) if isinstance(piece, str)]


def _check_placeholders(messages: Sequence[ChatMessage], wanted: Sequence[int], order: Sequence[int]) -> None:
    """Raise TemplateError unless every content came back once, and those of user and assistant in their order."""
    for index in wanted:
        if order.count(index) != 1:
            what = "loses or changes" if index not in order else "repeats"
            raise TemplateError(f"The chat template {what} the {messages[index].role.value} message at place {index + 1}.")
    spoken = [index for index in order if messages[index].role is not Role.SYSTEM]
    if spoken != sorted(spoken):
        raise TemplateError("The chat template changes the order of the messages.")
