"""From help articles to grounded question answering: passages and a question, and an answer that names the number of its passage.

Nothing is written by a model: the question is the heading in one of a few wordings, the answer is sentences of the passage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from dialogue.messages import ChatMessage, Role
from dialogue.skills.base import Passage
from finetune.config import GroundedSection
from finetune.samples import Kind, Sample


@dataclass(frozen=True, slots=True)
class Article:
    """One section of a help article: what a passage holds."""

    id: str  # of the whole article: its sections share it, so that a split keeps them together
    title: str  # of the article
    heading: str  # of this section; the title again at the beginning of an article
    text: str  # Markdown
    url: str  # where it can be read; "" = nowhere
    language: str  # IETF tag


def build_grounded(
    articles: Sequence[Article], section: GroundedSection, seed: int, *, source: str, skill: str = "support"
) -> list[Sample]:
    """Return questions with passages and answers.

    All passages come from `articles`, so hand in the sections of one side of the split at a time: then no training prompt shows
    what a test asks. Equal arguments give equal samples.
    """
    rng = Random(seed)  # noqa: S311 - chooses passages, no secrets
    samples: list[Sample] = []
    for number, article in enumerate(articles):
        others = [other for other in articles if other.id != article.id]
        shown = [article, *rng.sample(others, min(section.passages - 1, len(others)))]
        rng.shuffle(shown)
        place = shown.index(article) + 1
        passages = tuple(Passage(each.text[: section.max_passage_chars], each.url or each.id, each.heading) for each in shown)
        answer = f"{article.text.splitlines()[0]} [{place}]"
        turns = (ChatMessage(Role.USER, article.heading), ChatMessage(Role.ASSISTANT, answer))
        samples.append(
            Sample(f"{source}:{number}", Kind.GROUNDED, skill, article.language, article.id, source, turns, passages, answer_passage=place)
        )
    return samples
