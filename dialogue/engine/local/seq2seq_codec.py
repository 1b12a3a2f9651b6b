"""Text to token ids and back for one encoder–decoder: its own tokenizer, with the layout of its family.

No text forges a control token: what stands between the tokens of the layout is plain text, as with chat templates.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import transformers

from dialogue.engine.local.seq2seq_family import (
    FAMILIES,
    CodeFamily,
    Family,
    Layout,
    MarianFamily,
    PlainFamily,
    PrefixFamily,
    trained_pairs,
)
from dialogue.engine.local.seq2seq_files import TARGET_FOLDER, checked_config, positions, tokenizer_digest
from dialogue.errors import ModelError

LAYOUT_VERSION: Final = "1"  # raise it when a family's layout changes: adapters were trained with the one before

transformers.utils.logging.set_verbosity_error()  # what people need to know is said by this program


@dataclass(frozen=True, slots=True)
class EncodedTask:
    """A task as the model takes it."""

    ids: tuple[int, ...]  # for the encoder
    decoder_ids: tuple[int, ...]  # what the reply begins with, the start token included


class Seq2SeqCodec:
    """Encodes tasks for one model. Not to be shared between threads: tokenizers of this kind hold state."""

    def __init__(self, folder: Path, *, any_pair: bool = False) -> None:
        """Load the tokenizer of a model's folder.

        `any_pair` also takes languages that the model does not list, for training and for adapters that were trained on them.
        Raises ModelError.
        """
        config = checked_config(folder)
        self.model_type = str(config["model_type"])
        self.sha256 = tokenizer_digest(folder)
        self.layout_sha256 = hashlib.sha256(f"{FAMILIES[self.model_type]} {LAYOUT_VERSION}".encode()).hexdigest()
        self.positions = positions(config)  # tokens on each side; None = no limit
        self._tokenizer = _load_tokenizer(folder)
        own = folder / TARGET_FOLDER
        self._target = _load_tokenizer(own) if own.is_dir() else self._tokenizer
        self._family = self._choose_family(config, any_pair=any_pair)
        self._control = frozenset(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        self._target_control = frozenset(self._target.all_special_ids) - {self._target.unk_token_id}
        self._known = frozenset(self._target.get_vocab().values()) - self._target_control  # models may have more outputs than tokens

    def translate(self, text: str, source: str, target: str) -> EncodedTask:
        """Return the ids that ask for a translation between two IETF tags. Raises TaskUnsupported."""
        return self._encoded(text, self._family.translation(source, target))

    def summarise(self, text: str, language: str) -> EncodedTask:
        """Return the ids that ask for a summary of a text in this language. Raises TaskUnsupported."""
        return self._encoded(text, self._family.summary(language))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a source text as plain text: never a control id, whatever stands in it."""
        return self._plain(text, target=False)

    def encode_reply(self, text: str) -> tuple[int, ...]:
        """Return the ids of a reply to learn, the end token included."""
        return (*self._plain(text, target=True), self._target.eos_token_id)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a reply, control tokens left out."""
        shown = [token for token in ids if token in self._known]
        return self._target.decode(shown, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    @property
    def end(self) -> tuple[int, ...]:
        """The ids that end every source text, where no language code stands there."""
        return (self._tokenizer.eos_token_id,)

    @property
    def pad_id(self) -> int:
        return self._tokenizer.pad_token_id

    def find(self, token: str) -> int | None:
        """Return the id of a whole token; None when the vocabulary has none."""
        found = self._tokenizer.convert_tokens_to_ids(token)
        return None if found is None or found == self._tokenizer.unk_token_id else int(found)

    def around(self, code: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what the tokenizer puts before and after a source text in the language of `code`; "" = it needs none."""
        if code:
            self._tokenizer.src_lang = code.strip("_")  # M2M-100's tokens are __de__, its languages de
        plain, whole = self._raw("x", special=False), self._raw("x", special=True)
        start = next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)
        return tuple(whole[:start]), tuple(whole[start + len(plain) :])

    def _choose_family(self, config: dict[str, Any], *, any_pair: bool) -> Family:
        start = int(config.get("decoder_start_token_id", self._tokenizer.pad_token_id))
        match FAMILIES[self.model_type]:
            case "t5":
                return PrefixFamily(self, start, frozenset() if any_pair else trained_pairs(config))
            case "marian":
                codes = any(token.startswith(">>") and token.endswith("<<") for token in self._tokenizer.get_vocab())
                languages = [getattr(self._tokenizer, name, None) or "" for name in ("source_lang", "target_lang")]
                return MarianFamily(self, start, *([] if any_pair else languages), has_codes=codes)
            case "codes":
                if self.model_type == "mbart":
                    return CodeFamily(self, start, "mbart", begins_with_code=self._is_mbart_25, summarises=True)
                return CodeFamily(self, start, "m2m" if self.find("__en__") is not None else "nllb")
            case _:
                return PlainFamily(self, start)

    @property
    def _is_mbart_25(self) -> bool:
        """mBART-25 puts the language after a source text, mBART-50 before it."""
        return bool(self.around("en_XX")[1:] and len(self.around("en_XX")[1]) > 1)

    def _encoded(self, text: str, layout: Layout) -> EncodedTask:
        return EncodedTask((*layout.before, *self.encode(layout.prefix + text), *layout.after), layout.decoder)

    def _plain(self, text: str, *, target: bool) -> list[int]:
        ids = self._raw(text, special=False, target=target)
        control = self._target_control if target else self._control
        if control.isdisjoint(ids):
            return ids
        apart = self._control_pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return [token for token in self._raw(apart, special=False, target=target) if token not in control]

    def _raw(self, text: str, *, special: bool, target: bool = False) -> list[int]:
        if self.model_type == "marian" and text.startswith(">>"):
            text = f" {text}"  # its tokenizer takes such a text for a language code
        options = {"add_special_tokens": special, "split_special_tokens": True}
        if target and self._target is not self._tokenizer:
            return list(self._target(text, **options)["input_ids"])
        own_side = target and self.model_type == "marian"  # which cuts the two languages differently
        encoding = self._tokenizer(text_target=text, **options) if own_side else self._tokenizer(text, **options)
        return list(encoding["input_ids"])

    @cached_property
    def _control_pattern(self) -> "re.Pattern[str]":
        tokens: list[str] = sorted({*self._tokenizer.all_special_tokens, *self._target.all_special_tokens}, key=len, reverse=True)
        return re.compile("|".join(re.escape(token) for token in tokens))


def _load_tokenizer(folder: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Marian's recommends a library that changes nothing but punctuation
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises whatever its parts raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"The tokenizer in {folder} cannot be loaded: {reason}") from error
