"""Citations, what an answer takes from its passages, and refusals."""

import pytest

from dialogue.skills.base import Passage
from finetune.evaluation.grounding import citations, cited_passages, faithfulness, without_marks
from finetune.evaluation.refusals import admits_unknown, refuses

PASSAGES = (
    Passage("Open the sign-in page, choose Forgot password and enter the code that we sent within 10 minutes.", "a", "Reset"),
    Passage("我们在工作日下午四点前发货。", "b", "发货"),
)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("See here [1].", (1,)),
        ("Both say so [2], [1] and again [2].", (2, 1)),
        ("[1, 3] 【2】［4］", (1, 3, 2, 4)),
        ("An array a[0] has [none] of [123].", (0,)),
        ("", ()),
    ],
)
def test_citation_marks_are_read(answer: str, numbers: tuple[int, ...]) -> None:
    """Numbers in square brackets, also full-width and several in one, each once and in their order."""
    assert citations(answer) == numbers


def test_marks_are_taken_out() -> None:
    """Without its marks an answer is compared with its passage."""
    assert without_marks("Two days [1].").split() == ["Two", "days", "."]


def test_an_answer_from_the_passage_is_faithful_and_an_invented_one_is_not() -> None:
    """Words, inflected ones and numbers of the passage count; what stands nowhere does not."""
    good = faithfulness("Choose Forgot password and enter the codes within 10 minutes [1].", PASSAGES[:1], "How do I reset?")
    assert good.found == good.total > 0
    bad = faithfulness("Call 555-0199 before Friday, our hotline waives every charge.", PASSAGES[:1], "How do I reset?")
    assert bad.found == 0


def test_chinese_is_compared_by_pairs_of_characters() -> None:
    """A Chinese answer that copies is faithful, one that says something else is not."""
    good = faithfulness("工作日下午四点前发货。[2]", PASSAGES[1:], "什么时候发货？")
    assert good.found == good.total > 0
    bad = faithfulness("周末免费配送上门", PASSAGES[1:], "什么时候发货？")
    assert bad.found == 0


def test_an_answer_rests_on_what_it_cites() -> None:
    """It rests on the passages that it names; on all of them when it names none or none that exists."""
    assert cited_passages("So it is [2].", PASSAGES) == PASSAGES[1:]
    assert cited_passages("So it is [7].", PASSAGES) == PASSAGES
    assert cited_passages("So it is.", PASSAGES) == PASSAGES


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know that. Shall I ask a colleague?",
        "Sorry, I don’t know that.",
        "That is not in our help pages, shall I ask a colleague?",
        "I couldn't find anything about this in the articles.",
        "The passages do not mention opening hours.",
        "I'm sorry, I don't have that information.",
        "这个问题我不清楚，需要我请同事来帮您吗？",
        "抱歉，资料里没有提到。",
        "I'm not sure I can find that.",
    ],
)
def test_not_knowing_is_noticed(answer: str) -> None:
    """The skill's own sentence, in English and Chinese, and close variants are refusals."""
    assert admits_unknown(answer)
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "If you do not know your number, look at the letter. [1]",
        "You can ask us whether a colleague of yours may sign.",
        "Two days. [1]",
        "您可以在30天内退货。[2]",
        "Paris.",
        "如果您不记得密码，请点击重置。",
    ],
)
def test_an_answer_is_no_refusal(answer: str) -> None:
    """Answers that only use such words about the customer are answers."""
    assert not admits_unknown(answer)
    assert not refuses(answer)


@pytest.mark.parametrize(
    "answer", ["", "  \n", "I'm sorry, but I can't help with that.", "As an AI language model, I …", "抱歉，我不能回答。"]
)
def test_declining_is_a_refusal_but_no_lack_of_knowledge(answer: str) -> None:
    """Declined and empty answers refuse, without saying that they do not know."""
    assert refuses(answer)
    assert not admits_unknown(answer)
