"""How each family of encoder–decoders is asked: what stands around a source text, and what its reply begins with. Pure.

T5, mT5, ByT5      "translate English to German: " or "summarize: " before the text
NLLB, M2M-100      code of the source language around the text; the reply begins with the code of the target
mBART              the same; mBART-25 begins the reply with the code alone, mBART-50 with the end token before it
Marian             >>code<< of the target before the text, where the model knows several; else one pair of languages
BART, Pegasus      the text alone: summaries only
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from dialogue.engine.local.language_codes import LANGUAGE_CODES, find_codes
from dialogue.errors import TaskUnsupported

FAMILIES: Final[Mapping[str, str]] = {
    "t5": "t5", "mt5": "t5", "umt5": "t5", "longt5": "t5",
    "m2m_100": "codes", "mbart": "codes",
    "marian": "marian",
    "bart": "plain", "pegasus": "plain",
}  # fmt: skip

_PAIR_PREFIX: Final = "translation_"  # of T5's entries in task_specific_params: translation_en_to_de


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands around the ids of a source text, and what the decoder begins with."""

    prefix: str = ""  # text before the source text
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    decoder: tuple[int, ...] = ()  # the start token included


class Vocabulary(Protocol):
    """What a family asks the model's tokenizer."""

    @property
    def end(self) -> tuple[int, ...]:
        """The ids that end every source text, where no language code stands there."""
        ...

    def find(self, token: str) -> int | None:
        """Return the id of a whole token; None when the vocabulary has none."""
        ...

    def around(self, code: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what stands before and after a source text in the language of `code`."""
        ...


class Family(Protocol):
    """How tasks are written for one model. Both raise TaskUnsupported."""

    def translation(self, source: str, target: str) -> Layout:
        """Return the layout for a pair of IETF tags; `source` may be "" = unknown."""
        ...

    def summary(self, language: str) -> Layout:
        """Return the layout for a text in this language."""
        ...


@dataclass(frozen=True, slots=True)
class PrefixFamily:
    """Tasks are named in words."""

    vocabulary: Vocabulary
    start: int
    pairs: frozenset[tuple[str, str]] = frozenset()  # that the model says it was trained for; none = it does not say

    def translation(self, source: str, target: str) -> Layout:
        names = [_codes(tag, source, target).english for tag in (source, target)]
        if self.pairs and (_primary(source), _primary(target)) not in self.pairs:
            raise _unsupported(source, target)
        return self._layout(f"translate {names[0]} to {names[1]}: ")

    def summary(self, language: str) -> Layout:  # noqa: ARG002 - the shape of the port
        return self._layout("summarize: ")

    def _layout(self, prefix: str) -> Layout:
        return Layout(prefix, after=self.vocabulary.end, decoder=(self.start,))


@dataclass(frozen=True, slots=True)
class CodeFamily:
    """Languages are tokens on both sides."""

    vocabulary: Vocabulary
    start: int
    column: Literal["nllb", "mbart", "m2m"]
    begins_with_code: bool = False  # the code stands in the place of the start token: mBART-25
    summarises: bool = False

    def translation(self, source: str, target: str) -> Layout:
        code = self._token(source, source, target)
        reply = self.vocabulary.find(self._token(target, source, target))
        if reply is None or self.vocabulary.find(code) is None:
            raise _unsupported(source, target)
        before, after = self.vocabulary.around(code)
        return Layout("", before, after, (reply,) if self.begins_with_code else (self.start, reply))

    def summary(self, language: str) -> Layout:
        if not self.summarises:
            raise TaskUnsupported("This model translates; it does not summarise.")
        return self.translation(language, language)

    def _token(self, tag: str, source: str, target: str) -> str:
        code: str = getattr(_codes(tag, source, target), self.column)
        return f"__{code}__" if self.column == "m2m" else code


@dataclass(frozen=True, slots=True)
class MarianFamily:
    """One pair of languages, or one source and several targets that are tokens."""

    vocabulary: Vocabulary
    start: int
    source: str = ""  # as the tokenizer's files name them; "" = they do not say, "mul" and the like = several
    target: str = ""
    has_codes: bool = False

    def translation(self, source: str, target: str) -> Layout:
        spellings = _codes(target, source, target).marian
        if not _speaks(self.source, source):
            raise _unsupported(source, target)
        if not self.has_codes:
            if not _speaks(self.target, target):
                raise _unsupported(source, target)
            return Layout("", (), self.vocabulary.end, (self.start,))
        code = next((found for name in spellings if (found := self.vocabulary.find(f">>{name}<<")) is not None), None)
        if code is None:
            raise _unsupported(source, target)
        return Layout("", (code,), self.vocabulary.end, (self.start,))

    def summary(self, language: str) -> Layout:  # noqa: ARG002 - the shape of the port
        raise TaskUnsupported("This model translates; it does not summarise.")


@dataclass(frozen=True, slots=True)
class PlainFamily:
    """Nothing is said about the task: the model was trained for one."""

    vocabulary: Vocabulary
    start: int

    def translation(self, source: str, target: str) -> Layout:
        raise TaskUnsupported("This model summarises; it does not translate.", source, target)

    def summary(self, language: str) -> Layout:  # noqa: ARG002 - the shape of the port
        before, after = self.vocabulary.around("")
        return Layout("", before, after, (self.start,))


def trained_pairs(config: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the pairs of languages that a T5's config.json lists; none when it lists no task."""
    names = [name.removeprefix(_PAIR_PREFIX) for name in config.get("task_specific_params") or {} if name.startswith(_PAIR_PREFIX)]
    return frozenset((source, target) for source, _, target in (name.partition("_to_") for name in names) if target)


def _codes(tag: str, source: str, target: str) -> Any:
    found = find_codes(tag) if tag else None
    if found is None:
        raise _unsupported(source, target)
    return found


def _primary(tag: str) -> str:
    return tag.casefold().partition("-")[0]


def _speaks(written: str, tag: str) -> bool:
    """Whether a language as Marian's files write it may be the one of a tag; what is in no table may be a group of languages."""
    if not written or not any(written in codes.marian for codes in LANGUAGE_CODES.values()):
        return True
    found = find_codes(tag) if tag else None
    return not tag or (found is not None and written in found.marian)


def _unsupported(source: str, target: str) -> TaskUnsupported:
    return TaskUnsupported(f"The model does not translate from {source or 'an unknown language'} to {target}.", source, target)
