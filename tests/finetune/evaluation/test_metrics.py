"""chrF, BLEU and ROUGE against values that were worked out by hand or printed by others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.evaluation.metrics import bleu, chrf, common_subsequence, rouge_l, rouge_n, words

CAT = "the cat sat on the mat"


def test_a_chinese_character_is_a_word() -> None:
    """Words are cut at spaces and marks; Chinese is cut into characters, numbers and English among them stay whole."""
    assert words("I'd like 2 rooms — 两间房, WiFi免费!") == ["i'd", "like", "2", "rooms", "两", "间", "房", "wifi", "免", "费"]


@pytest.mark.parametrize(
    ("answer", "n", "expected"),
    [
        (CAT, 1, 1.0),
        ("the cat", 1, 2 * 2 / (2 + 6)),
        ("the the the the the the the", 1, 2 * 2 / (7 + 6)),  # each word counts as often as the reference has it
        ("a cat on a mat", 2, 0.0),
        ("the cat lay on the mat", 2, 2 * 3 / (5 + 5)),
        ("", 1, 0.0),
    ],
)
def test_rouge_n_is_the_f1_of_clipped_ngrams(answer: str, n: int, expected: float) -> None:
    """ROUGE-n is 2 · common / (found + wanted), common n-grams clipped as in Lin (2004)."""
    assert rouge_n(answer, [CAT], n) == pytest.approx(expected)


def test_rouge_l_is_that_of_lins_example() -> None:
    """Lin's example (2004, section 3.1): "police kill the gunman" scores 3/4 and 2/4 against the two candidates."""
    reference = ["police killed the gunman"]
    assert rouge_l("police kill the gunman", reference) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", reference) == pytest.approx(0.5)


def test_rouge_counts_chinese_characters() -> None:
    """Two Chinese sentences that share four of five characters in order score 0.8."""
    assert rouge_l("今天天气好", ["今天天气坏"]) == pytest.approx(0.8)


def test_the_best_reference_counts() -> None:
    """Of several references the closest one is taken, whatever their order."""
    assert rouge_l(CAT, ["a dog", CAT]) == rouge_l(CAT, [CAT, "a dog"]) == 1.0
    assert rouge_n(CAT, ["a dog", CAT], 2) == 1.0


def test_chrf_is_that_of_sacrebleu() -> None:
    """chrF2 of one word that is half right, by hand: n-gram precisions and recalls averaged over the orders that both have."""
    # "abcd" against "abce": 3/4, 2/3, 1/2, 0/1 for n = 1…4, precision and recall alike
    assert chrf("abcd", ["abce"]) == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4, abs=1e-4)
    assert chrf(CAT, [CAT]) == pytest.approx(1.0)
    assert chrf("", [CAT]) == 0.0


def test_bleu_of_equal_texts_is_one_and_cuts_chinese() -> None:
    """BLEU is 1 for equal texts in English and Chinese; a Chinese sentence is no single word."""
    assert bleu(CAT, [CAT]) == pytest.approx(1.0)
    assert bleu("今天天气非常好", ["今天天气非常好"]) == pytest.approx(1.0)
    assert 0.2 < bleu("今天天气非常坏", ["今天天气非常好"]) < 1


TEXTS = st.lists(st.sampled_from("abcde"), max_size=8)


@given(TEXTS, TEXTS)
def test_a_common_subsequence_is_symmetric_and_no_longer_than_either(left: list[str], right: list[str]) -> None:
    """Its length is the same both ways, at most that of the shorter list, and the whole list against itself."""
    length = common_subsequence(left, right)
    assert length == common_subsequence(right, left) <= min(len(left), len(right))
    assert common_subsequence(left, left) == len(left)


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
def test_every_score_is_a_share(answer: str, reference: str) -> None:
    """Whatever the texts are, each score lies between 0 and 1."""
    for score in (chrf(answer, [reference]), bleu(answer, [reference]), rouge_l(answer, [reference]), rouge_n(answer, [reference], 1)):
        assert 0 <= score <= 1 + 1e-9
