"""From help articles to grounded question answering: passages and a question, and an answer that names the number of its passage.

No model writes anything here: the question is the heading in one of a few wordings, the answer is sentences of the passage. Where
the right passage is taken away, the answer is the very sentence that the skill's prompt offers for that case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from dialogue.messages import ChatMessage, Role
from dialogue.skills.base import Passage
from dialogue.skills.texts import prompt_text
from finetune.config import GroundedSection
from finetune.samples import Kind, Sample
from finetune.sources.answers import facts, quote
from finetune.sources.passages import Unit, cut, plain_line, read_units, show
from finetune.sources.questions import ask, is_how_to
from finetune.sources.shelf import Shelf, ShelfEntry

_FEWEST_PASSAGES: Final = 2  # in a prompt; as many as the recipe says at most, for a search does not always find so many
_FEWEST_CHARS: Final = 40  # of a section; shorter ones only lead to others


@dataclass(frozen=True, slots=True)
class Article:
    """One section of a help article: what a passage holds."""

    id: str  # of the whole article: its sections share it, so that a split keeps them together
    title: str  # of the article
    heading: str  # of this section; the title again at the beginning of an article
    text: str  # Markdown
    url: str  # where it can be read; "" = nowhere
    language: str  # IETF tag


@dataclass(frozen=True, slots=True)
class _Piece:
    """A section as it is shown."""

    article: Article
    number: int  # of the section in its article, 1 = first
    units: tuple[Unit, ...]
    is_whole: bool  # whether the end of the section was not cut off

    @property
    def passage(self) -> Passage:
        article = self.article
        title = article.heading if article.heading == article.title or not article.title else f"{article.title}: {article.heading}"
        return Passage(show(self.units), article.url or article.id, plain_line(title))

    def question(self, rng: Random) -> str:
        return ask(plain_line(self.article.heading), plain_line(self.article.title), self.article.language, rng)

    def draft(self, source: str, skill: str) -> Sample:
        article = self.article
        return Sample(f"{article.id}#{self.number}", Kind.GROUNDED, skill, article.language, article.id, source, turns=())

    @property
    def entry(self) -> ShelfEntry:
        return ShelfEntry(self.article.id, self.article.language, f"{self.article.title} {self.article.heading}", show(self.units))


def build_grounded(
    articles: Sequence[Article], section: GroundedSection, seed: int, *, source: str, skill: str = "support"
) -> list[Sample]:
    """Return a question with its answer for each section that answers one, and for a share of them the same without the right passage.

    All passages come from `articles`, so hand in the sections of one side of the split at a time: then no training prompt shows
    what a test asks. Equal arguments give equal samples; samples stay in the order of the articles. Sections that hold nothing to
    quote serve as distractors only.
    """
    pieces = _pieces(articles, section.max_passage_chars)
    shelf = Shelf([piece.entry for piece in pieces])
    also_without = section.unanswerable / (1 - section.unanswerable)
    samples: list[Sample] = []
    for place, piece in enumerate(pieces):
        rng = Random(f"{seed}\n{piece.article.id}\n{piece.number}")  # noqa: S311 - chooses wordings and passages, no secrets
        question = piece.question(rng)
        answer = quote(piece.units, question, wants_steps=is_how_to(question), is_whole=piece.is_whole)
        count = rng.randint(_FEWEST_PASSAGES, section.passages)
        others = [pieces[other].passage for other in shelf.distractors(place, question, count, rng)]
        if not answer or len(others) < count:
            continue
        draft = piece.draft(source, skill)
        samples.append(_answerable(draft, piece, (question, answer), others[: count - 1], rng))
        if rng.random() < also_without:
            samples.append(_unanswerable(draft, piece, others, rng))
    return samples


def _pieces(articles: Sequence[Article], limit: int) -> list[_Piece]:
    pieces: list[_Piece] = []
    numbers: dict[str, int] = {}
    for article in articles:
        numbers[article.id] = numbers.get(article.id, 0) + 1
        units = read_units(article.text)
        shown = cut(units, limit)
        if len(show(shown)) >= _FEWEST_CHARS:
            pieces.append(_Piece(article, numbers[article.id], tuple(shown), is_whole=len(shown) == len(units)))
    return pieces


def _answerable(draft: Sample, piece: _Piece, talk: tuple[str, str], others: Sequence[Passage], rng: Random) -> Sample:
    question, answer = talk
    passages = [piece.passage, *others]
    rng.shuffle(passages)
    place = passages.index(piece.passage) + 1
    return replace(
        draft,
        turns=_turns(question, f"{answer} [{place}]"),
        passages=tuple(passages),
        answer_passage=place,
        references=tuple(unit.text for unit in piece.units),
        facts=facts(answer),
    )


def _unanswerable(draft: Sample, piece: _Piece, others: Sequence[Passage], rng: Random) -> Sample:
    article = piece.article
    passages = list(others)
    rng.shuffle(passages)
    turns = _turns(piece.question(rng), prompt_text("support_unknown", article.language))
    return replace(draft, id=f"{draft.id}-unknown", kind=Kind.UNANSWERABLE, turns=turns, passages=tuple(passages))


def _turns(question: str, answer: str) -> tuple[ChatMessage, ChatMessage]:
    return ChatMessage(Role.USER, question), ChatMessage(Role.ASSISTANT, answer)
