"""Chats for engines without a model: ids below 256 are bytes of UTF-8, one id above them stands for each role.

Implements the ports that tokenizer and chat template of a real model implement, so that the whole program runs with
`ScriptedEngine` and without any file. No content can forge a role here either.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dialogue.messages import ChatMessage, Role

_ROLE_IDS: Final = {role: 256 + index for index, role in enumerate(Role)}
_SHA256: Final = hashlib.sha256(b"bytes").hexdigest()


@dataclass(frozen=True, slots=True)
class ByteChat:
    """Token ids of a chat."""

    ids: tuple[int, ...]


class ByteTokenizer:
    """Text as bytes; lone surrogates become question marks."""

    sha256 = _SHA256

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", errors="replace"))


class ByteTemplate:
    """Each message is the id of its role and the bytes of its content."""

    sha256 = _SHA256
    stop_texts: tuple[str, ...] = ()

    def render_chat(self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool = True) -> ByteChat:
        """Return the ids; the generation prompt is the assistant's role id."""
        ids: list[int] = []
        for message in messages:
            ids += [_ROLE_IDS[message.role], *message.content.encode("utf-8", errors="replace")]
        return ByteChat((*ids, _ROLE_IDS[Role.ASSISTANT]) if add_generation_prompt else tuple(ids))


def read_chat(prompt: Sequence[int]) -> list[ChatMessage]:
    """Return the messages of rendered ids; what stands before the first role, and an empty generation prompt, is left out."""
    roles = {number: role for role, number in _ROLE_IDS.items()}
    starts = [position for position, number in enumerate(prompt) if number in roles]
    ends = [*starts[1:], len(prompt)]
    spans = zip(starts, ends, strict=False)
    read = [ChatMessage(roles[prompt[start]], bytes(prompt[start + 1 : end]).decode("utf-8", errors="replace")) for start, end in spans]
    return [message for message in read if message.content]


def echo_user(prompt: Sequence[int]) -> str:
    """Reply to the last user message of a chat by repeating it."""
    said = [message.content for message in read_chat(prompt) if message.role is Role.USER]
    return f"You said: {said[-1]}" if said else "You said nothing."
