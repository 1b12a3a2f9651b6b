"""Where two ways of generating part, and when that is no fault."""

from functools import partial

import pytest

from dialogue.tokenizer import Tokenizer
from finetune.evaluation.agreement import TIE, Agreement, Spoken, compare
from finetune.evaluation.answers import Answer, Question
from finetune.samples import Kind
from tests.fakes.tiny_tokenizers import tiny_tokenizer
from tests.finetune.evaluation.scene import sample

TEXT = "Order 12 is on its way."


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tiny_tokenizer("smollm").load()


def compared(tokenizer: Tokenizer, said: str, gap: float = 1.0, *, exact: bool = True) -> Agreement:
    """Return the agreement of an engine that says `said` where the training process says TEXT."""
    ids = tuple(tokenizer.encode(TEXT))
    question = Question(sample(1, Kind.ANSWER, "Where?", TEXT), (1, 2, 3), 50)
    answer = Answer(said, 3, 0, len(ids) + 1, finished=True, prompt_ms=1.0, generation_ms=1.0)
    decode = partial(tokenizer.decode, skip_special=True)
    return compare("engine", [(question, Spoken(ids, (gap,) * (len(ids) + 1)))], [answer], decode, exact=exact)


def test_the_same_text_agrees(tokenizer: Tokenizer) -> None:
    """An engine that says the same has matched every token, and nothing parts."""
    found = compared(tokenizer, TEXT)
    assert found.holds
    assert (found.same, found.matched_tokens) == (1, found.tokens)


@pytest.mark.parametrize(
    ("said", "kept"), [("Order 12 was lost.", "Order 12 "), ("", ""), (TEXT + " Bye", TEXT), ("Order 12 is on", "Order 12 is on")]
)
def test_the_first_divergence_is_found(tokenizer: Tokenizer, said: str, kept: str) -> None:
    """It is told at which token the answers part: in the middle, at the beginning, or where one goes on and the other ends."""
    found = compared(tokenizer, said)
    (divergence,) = found.divergences
    assert not found.holds
    common = tokenizer.decode(tokenizer.encode(TEXT)[: divergence.token])
    assert said.startswith(common)
    assert len(common) >= len(kept.rstrip()) - 3
    assert found.matched_tokens == divergence.token


def test_a_tie_is_no_fault_and_other_weights_need_not_agree(tokenizer: Tokenizer) -> None:
    """Where two tokens are equally likely rounding decides; quantised weights may say what they like, and it is told."""
    assert compared(tokenizer, "Order 12 was lost.", gap=TIE / 2).holds
    assert not compared(tokenizer, "Order 12 was lost.", gap=TIE * 2).holds
    other = compared(tokenizer, "Order 12 was lost.", exact=False)
    assert other.holds
    assert other.same == 0
