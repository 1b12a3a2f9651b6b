"""Text to token ids and back, over the `tokenizers` library; no torch, no transformers.

What a person wrote can never become a control token here. The file of a tokenizer lists control tokens in two places: as
added tokens, which the library looks for in any text, and as pieces of the vocabulary, which ordinary merges may spell.
So both are closed when the file is loaded: no control token is registered, and their pieces are renamed to names that
nobody can guess. Ids stay what they are, so `decode` and the model see no difference.

Whitespace that a tokenizer lists as an added token (Gemma's "\\n\\n") is ordinary text and stays recognised.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from dialogue.errors import ModelError, TemplateError

CONFIG_NAME = "tokenizer_config.json"

# Names that end a turn in the published chat models; a file that lists one as an ordinary piece is corrected.
END_OF_TURN_TOKENS = frozenset(
    {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<end_of_turn>",
        "<|end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|return|>",
        "<end_of_utterance>",
        "</s>",
        "<eos>",
        "<EOT>",
    }
)
_LOOKS_LIKE_CONTROL = re.compile(r"<\|[^|\s<>]{1,64}\|>|<(?:start|end)_of_turn>")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The tokens with a part in every chat, as the model's files name them."""

    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None
    ends: tuple[str, ...] = ()  # further tokens that end a turn


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A token that only the structure of a prompt may contain."""

    text: str
    id: int
    strips_left: bool = False  # whitespace before it belongs to it
    strips_right: bool = False  # whitespace after it belongs to it


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Token ids and, for each, where its text stands in the input: `text[start:end]`, in characters."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Tokenizer:
    """A tokenizer whose `encode` knows plain text only."""

    def __init__(self, document: bytes, special: SpecialTokens) -> None:
        """Load `document`, the bytes of a `tokenizer.json`. Raises ModelError when the library cannot read it."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a `tokenizer.json` with the `tokenizer_config.json` beside it. Raises ModelError."""
        raise NotImplementedError
