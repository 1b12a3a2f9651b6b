"""What is trained and evaluated: a piece of dialogue that ends with a reply worth learning.

A sample is text, not token ids: `finetune.rendering` makes those, by the same way as the chat makes its prompts. One line of
a dataset file is one sample as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from dialogue.messages import ChatMessage, Role
from dialogue.skills.base import Passage


class Kind(StrEnum):
    """What a sample teaches. Evaluation chooses its suites by it."""

    DIALOGUE = "dialogue"  # turns of a customer and an assistant
    ANSWER = "answer"  # one question, one answer
    GROUNDED = "grounded"  # a question with passages: the answer names the number of its source
    UNANSWERABLE = "unanswerable"  # a question whose answer stands in none of the passages
    SUMMARY = "summary"
    TRANSLATION = "translation"
    WRITING = "writing"


@dataclass(frozen=True, slots=True)
class Sample:
    """A dialogue that begins with the user and ends with the assistant; users and assistant alternate.

    For a skill with a task of its own (translate, summarize, write) the user's words are what follows its command, for
    example "en>de Where is my parcel?".
    """

    id: str  # unique in a dataset; says where it comes from, such as "star:star-4414"
    kind: Kind
    skill: str  # whose prompt it is trained with: chat, support, translate, summarize, write
    language: str  # IETF tag of what the assistant writes
    group: str  # what must not be in both train and test: a conversation, a user, an article
    source: str  # the source's name in the recipe
    turns: tuple[ChatMessage, ...]
    passages: tuple[Passage, ...] = ()  # for the last question, best first
    answer_passage: int = 0  # number of the passage that holds the answer, 1 = first; 0 = none does
    references: tuple[str, ...] = ()  # further right answers, for evaluation
    facts: tuple[str, ...] = ()  # words that a right answer must hold, for evaluation
    extra: Mapping[str, str] = field(default_factory=dict)  # what only its own suite reads

    @property
    def question(self) -> str:
        """What the user said last."""
        return self.turns[-2].content

    @property
    def answer(self) -> str:
        """The reply to learn, and the first reference."""
        return self.turns[-1].content


def encode_sample(sample: Sample) -> str:
    """Return one line of a dataset file, without its line end. Equal samples give equal bytes."""
    return json.dumps(asdict(sample), ensure_ascii=False, sort_keys=True)


def decode_sample(line: str) -> Sample:
    """Return the sample of one line of a dataset file. Raises ValueError, KeyError or TypeError when it is none."""
    value: dict[str, Any] = json.loads(line)
    return Sample(
        **value
        | {
            "kind": Kind(value["kind"]),
            "turns": tuple(ChatMessage(Role(turn["role"]), turn["content"]) for turn in value["turns"]),
            "passages": tuple(Passage(**passage) for passage in value["passages"]),
            "references": tuple(value["references"]),
            "facts": tuple(value["facts"]),
        }
    )
