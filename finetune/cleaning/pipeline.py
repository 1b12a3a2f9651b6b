"""The cleaning of one sample, step by step; what concerns several samples is in `duplicates` and in `finetune.leaks`."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dialogue.messages import ChatMessage
from dialogue.skills.languages import Detector, detect_language
from finetune.cleaning.languages import identify
from finetune.cleaning.lengths import reply_problem
from finetune.cleaning.scrub import Scrubber
from finetune.cleaning.spans import PLACEHOLDER
from finetune.cleaning.text import defect, has_placeholder, mend
from finetune.cleaning.turns import is_cut_off, tidy
from finetune.config import CleanSection
from finetune.samples import Sample
from finetune.sources.grounded import Article

_PERSONAL: Final = "personal data replaced"
_IN_REPLY: Final = "personal data in the reply"


class Unfit(ValueError):
    """A sample that does not stay. `str(error)` is the reason that samples are counted by."""


class Cleaner:
    """Cleans samples and articles by one recipe's rules. Equal input, equal output."""

    def __init__(self, section: CleanSection, *, scrubber: Scrubber | None = None, detect: Detector = detect_language) -> None:
        self._section = section
        self._scrubber = (scrubber or Scrubber()) if section.scrub else None
        self._detect = detect

    def clean(self, sample: Sample) -> tuple[Sample, frozenset[str]]:
        """Return the clean sample, and what was changed. Raises Unfit."""
        done: set[str] = set()
        turns, tidied = tidy([replace(turn, content=_mended(turn.content, done)) for turn in sample.turns])
        done.update(tidied)
        references = tuple(text for text in (_mended(text, done) for text in sample.references) if text)
        sample = replace(sample, turns=self._useful(turns, sample.language, done), references=references)
        sample, problem = identify(sample, self._section.languages, self._detect)
        if problem:
            raise Unfit(problem)
        return self._scrubbed(sample, done), frozenset(done)

    def clean_article(self, article: Article) -> tuple[Article, frozenset[str]]:
        """Return the clean section of an article, and what was changed. Raises Unfit.

        Telephone numbers and addresses stay: they are published, and the very thing that customers ask for.
        """
        done: set[str] = set()
        words = {name: _mended(getattr(article, name), done) for name in ("title", "heading", "text")}
        if not words["text"] or not words["heading"]:
            raise Unfit("empty section")
        if problem := self._defect(words["text"]):
            raise Unfit(problem)
        language = article.language or self._detect(words["text"]) or ""
        if not language:
            raise Unfit("language unknown")
        if self._section.languages and language.partition("-")[0] not in self._section.languages:
            raise Unfit("another language")
        return replace(article, language=language, **words), frozenset(done)

    def _useful(self, turns: Sequence[ChatMessage], language: str, done: set[str]) -> tuple[ChatMessage, ...]:
        """Return the turns until the first that is of no use. Raises Unfit when that is all of them."""
        if not turns:
            raise Unfit("nothing was answered")
        for first in range(0, len(turns), 2):
            question, reply = turns[first].content, turns[first + 1].content
            problem = self._defect(question) or self._defect(reply) or self._reply_problem(reply, language)
            if problem:
                if not first:
                    raise Unfit(problem)
                done.add(f"ended early: {problem}")
                return tuple(turns[:first])
        return tuple(turns)

    def _defect(self, text: str) -> str:
        if self._section.placeholders == "drop" and has_placeholder(text):
            return "unfilled placeholder"
        return defect(text)

    def _reply_problem(self, reply: str, language: str) -> str:
        return reply_problem(reply, self._section) or ("reply cut off" if is_cut_off(reply, language) else "")

    def _scrubbed(self, sample: Sample, done: set[str]) -> Sample:
        """Hide personal data. A reply that names somebody whom the customer did not is none to learn. Raises Unfit."""
        turns = tuple(replace(turn, content=self._hide(turn.content, done)) for turn in sample.turns)
        kept = _before_new_placeholder(turns)
        if kept < len(turns):
            if not kept:
                raise Unfit(_IN_REPLY)
            done.add(f"ended early: {_IN_REPLY}")
            sample, turns = replace(sample, passages=(), answer_passage=0, references=()), turns[:kept]
        answer = turns[-1].content.casefold()
        return replace(
            sample,
            id=self._harmless(sample.id),
            group=self._harmless(sample.group),
            turns=turns,
            references=tuple(self._hide(text, done) for text in sample.references),
            facts=tuple(fact for fact in sample.facts if fact.casefold() in answer),
            extra={name: self._hide(text, done) for name, text in sample.extra.items()},
        )

    def _hide(self, text: str, done: set[str]) -> str:
        if self._scrubber is None:
            return text
        text, found = self._scrubber.scrub(text)
        done.update(f"{_PERSONAL}: {kind}" for kind in found)
        return text

    def _harmless(self, name: str) -> str:
        """Return an id or a group that names nobody: a column of addresses may serve as either."""
        if self._hide(name, set()) == name:
            return name
        return f"{name.partition(':')[0]}:{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _before_new_placeholder(turns: Sequence[ChatMessage]) -> int:
    """Return how many turns stand before the first reply with a placeholder of a kind that was not there before.

    What a customer has said can be repeated, whatever it was; a placeholder out of nowhere is what customers would be shown.
    """
    known: set[str] = set()
    for place, turn in enumerate(turns):
        found = set(PLACEHOLDER.findall(turn.content))
        if place % 2 and not found <= known:
            return place - 1
        known |= found
    return len(turns)


def _mended(text: str, done: set[str]) -> str:
    text, reasons = mend(text)
    done.update(reasons)
    return text
