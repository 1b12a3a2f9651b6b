"""Text to token ids and back, over the `tokenizers` library; no torch, no transformers.

What a person wrote never becomes a control token here: `encode` reads plain text only, and `dialogue.tokenizer_document`
says how that is made sure. Only `dialogue.chat_template` puts control tokens into a prompt, by their ids.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from dialogue.errors import ModelError, TemplateError
from dialogue.tokenizer_document import (
    END_OF_TURN_TOKENS,
    ControlToken,
    Document,
    find_control_tokens,
    hide_control_tokens,
    unknown_piece,
    vocabulary,
    without_first_prefix,
)

CONFIG_NAME = "tokenizer_config.json"
_GENERATION_NAME = "generation_config.json"
_END_TOKENS_KEY = "kefu_end_tokens"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The tokens with a part in every chat, as the model's files name them."""

    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    unk: str | None = None
    ends: tuple[str, ...] = ()  # further tokens that end a turn

    def named(self) -> frozenset[str]:
        """Return every token that is a control token because it is named here."""
        return frozenset(token for token in (self.bos, self.eos, self.pad, *self.ends) if token)

    def for_template(self) -> dict[str, str]:
        """Return the variables that chat templates expect, such as `bos_token`."""
        values = {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad, "unk_token": self.unk}
        return {name: value for name, value in values.items() if value is not None}

    def to_config(self) -> dict[str, Any]:
        """Return these tokens as entries of a `tokenizer_config.json`."""
        return {**self.for_template(), _END_TOKENS_KEY: list(self.ends)}

    @classmethod
    def from_config(cls, config: dict[str, Any], ends: Iterable[str] = ()) -> "SpecialTokens":
        """Read the entries of a `tokenizer_config.json`, Kefu's or the hub's."""
        found = {name: _token_text(config.get(f"{name}_token")) for name in ("bos", "eos", "pad", "unk")}
        return cls(**found, ends=(*config.get(_END_TOKENS_KEY, ()), *ends))


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Token ids and, for each, where its text stands in the input: `text[start:end]`, in characters."""

    ids: list[int]
    spans: list[tuple[int, int]]


class Tokenizer:
    """A tokenizer whose `encode` knows plain text only. Safe to share between threads."""

    def __init__(self, document: bytes, special: SpecialTokens) -> None:
        """Load `document`, the bytes of a `tokenizer.json`. Raises ModelError when they are none."""
        parsed = _parse(document)
        self.special = special
        self.sha256 = hashlib.sha256(document).hexdigest()
        control = find_control_tokens(parsed, special.named())
        unknown = unknown_piece(parsed)
        if unknown in special.named() or unknown not in vocabulary(parsed):
            unknown = None  # a character must not end the turn because the model has no piece for it
        self._control = {text: token for text, token in control.items() if text != unknown}
        self._hidden = hide_control_tokens(parsed, self._control, unknown)
        self.control_ids = frozenset(token.id for token in self._control.values())
        ends = (text for text in (special.eos, *special.ends, *END_OF_TURN_TOKENS) if text is not None)
        self.eos_ids = frozenset(self._control[text].id for text in ends if text in self._control)
        self._pattern = re.compile("|".join(re.escape(text) for text in sorted(self._control, key=len, reverse=True)) or "(?!)")
        self._first = _build(parsed)
        inner = without_first_prefix(parsed)
        self._inner = self._first if inner is None else _build(inner)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Load a `tokenizer.json` with the `tokenizer_config.json` beside it, if there is one. Raises ModelError."""
        try:
            document = path.read_bytes()
        except OSError as error:
            raise ModelError(f"The tokenizer {path} cannot be read: {error.strerror}.") from error
        return cls(document, SpecialTokens.from_config(read_json(path.with_name(CONFIG_NAME)), _ends_by_id(path, document)))

    @property
    def bos_token(self) -> str | None:
        """The token that begins a prompt, for the template; None when the model has none."""
        return self.special.bos

    @property
    def eos_token(self) -> str | None:
        """The token that ends a reply; `eos_ids` holds every one that does."""
        return self.special.eos

    def control_id(self, token: str) -> int | None:
        """Return the id of the control token `token`; None when it is none."""
        found = self._control.get(token)
        return None if found is None else found.id

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` as plain text: never a control id, whatever stands in it."""
        return self.encode_spans(text).ids

    def encode_spans(self, text: str, *, at_start: bool = True) -> EncodedText:
        """Return the ids of `text` as plain text, and where each stands. `at_start` says that nothing precedes it.

        Raises TemplateError if a control id came out after all, which would be a fault of this module.
        """
        encoding = (self._first if at_start else self._inner).encode(_LONE_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        if not self.control_ids.isdisjoint(encoding.ids):
            raise TemplateError("The tokenizer makes control tokens of plain text, so prompts with it are not safe.")
        return EncodedText(encoding.ids, encoding.offsets)

    def split_control(self, text: str) -> Iterator[str | ControlToken]:
        """Cut `text`, which must come from a template and never from a person, at its control tokens."""
        position = 0
        for match in self._pattern.finditer(text):
            if match.start() > position:
                yield text[position : match.start()]
            yield self._control[match[0]]
            position = match.end()
        if position < len(text):
            yield text[position:]

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Return the text of `ids`. Control tokens show as their names, or not at all with `skip_special`."""
        shown = [token_id for token_id in ids if not (skip_special and token_id in self.control_ids)]
        return self._hidden.reveal(self._first.decode(shown, skip_special_tokens=False))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, `{}` when there is no such file. Raises ModelError when it is none."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"The file {path} beside the tokenizer cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise ModelError(f"The file {path} beside the tokenizer holds no JSON object.")
    return value


def _ends_by_id(path: Path, document: bytes) -> list[str]:
    """Return the tokens that the hub's `generation_config.json` names by id as ends of a reply."""
    ids = read_json(path.with_name(_GENERATION_NAME)).get("eos_token_id", [])
    wanted = set(ids if isinstance(ids, list) else [ids])
    if not wanted:
        return []
    parsed = _parse(document)
    known = vocabulary(parsed) | {token["content"]: token["id"] for token in parsed.get("added_tokens", ())}
    return [text for text, token_id in known.items() if token_id in wanted]


def _token_text(value: Any) -> str | None:
    """Return the text of a token in `tokenizer_config.json`, where the hub writes a string or an object."""
    return value.get("content") if isinstance(value, dict) else value


def _parse(document: bytes) -> Document:
    try:
        parsed = json.loads(document)
        vocabulary(parsed)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"This is no tokenizer.json: {error}.") from error
    return parsed


def _build(document: Document) -> tokenizers.Tokenizer:
    """Return the library's tokenizer of `document`. Raises ModelError."""
    try:
        if document["model"]["type"] == "BPE":
            return _build_bpe(document)
        return tokenizers.Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"The tokenizer cannot be loaded: {error}.") from error


def _build_bpe(document: Document) -> tokenizers.Tokenizer:
    """Hand vocabulary and merges over as they are: writing them as JSON and parsing them again takes three times as long."""
    shell = document | {"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(shell, ensure_ascii=False))
    options = {name: value for name, value in document["model"].items() if name != "type" and value is not None}
    tokenizer.model = tokenizers.models.BPE(**options)
    flags = [{name: value for name, value in token.items() if name != "id"} for token in document["added_tokens"]]
    tokenizer.add_tokens([tokenizers.AddedToken(**token) for token in flags])
    return tokenizer
