"""Help articles become questions with passages, and answers that name the number of their source."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialogue.skills.texts import prompt_text
from finetune.config import GroundedSection, SplitSection
from finetune.samples import Kind, Sample
from finetune.sources.answers import facts, quote
from finetune.sources.grounded import Article, build_grounded
from finetune.sources.passages import read_units
from finetune.sources.questions import ask
from finetune.split import split_groups

SECTION = GroundedSection(passages=3, unanswerable=0.4, max_passage_chars=300)
THINGS = ("kettle", "lamp", "radio", "scooter", "blanket", "camera", "printer", "heater", "fridge", "toaster", "drill", "mower")


def shelf(language: str = "en") -> list[Article]:
    """Return articles of two sections each about different things."""
    return [
        Article(f"shop:{thing}", f"About the {thing}", heading, text, f"https://shop.example/{thing}", language)
        for number, thing in enumerate(THINGS, start=10)
        for heading, text in (
            (
                f"How to clean the {thing}",
                f"You need {number} minutes for it:\n\n1. Unplug the {thing}.\n2. Wipe it with code LG{number}.\n",
            ),
            (f"How long does the {thing} last?", f"Each {thing} lasts {number} years. See https://shop.example/{thing}/life for more."),
        )
    ]


SAMPLES = build_grounded(shelf(), SECTION, 7, source="shop")
ANSWERED = [sample for sample in SAMPLES if sample.kind is Kind.GROUNDED]
UNKNOWN = [sample for sample in SAMPLES if sample.kind is Kind.UNANSWERABLE]


def article_of(sample: Sample, number: int) -> str:
    """Return the article that a passage of the sample is of."""
    return f"shop:{sample.passages[number - 1].source.rpartition('/')[2]}"


def test_every_section_that_answers_is_asked() -> None:
    """Each section gives one question that its own passage answers."""
    assert len(ANSWERED) == 2 * len(THINGS)
    assert all(article_of(sample, sample.answer_passage) == sample.group for sample in ANSWERED)


def test_the_answer_names_the_number_of_its_passage() -> None:
    """An answer ends with the number of the passage that holds it, and with no other."""
    assert all(re.findall(r"\[(\d)\]", sample.answer) == [str(sample.answer_passage)] for sample in ANSWERED)
    assert all(sample.answer.endswith(f" [{sample.answer_passage}]") for sample in ANSWERED)


def test_the_answer_is_words_of_its_passage() -> None:
    """Each line of an answer stands word by word in the passage."""
    for sample in ANSWERED:
        shown = sample.passages[sample.answer_passage - 1].text
        assert all(line in shown for line in sample.answer.removesuffix(f" [{sample.answer_passage}]").splitlines())


def test_numbers_links_and_codes_are_kept_and_named() -> None:
    """The facts of an answer are its numbers, links and codes, each of them word by word in it."""
    assert all(fact in sample.answer for sample in ANSWERED for fact in sample.facts)
    life = next(sample for sample in ANSWERED if sample.id == "shop:kettle#2")
    assert life.facts == ("10", "https://shop.example/kettle/life")
    assert facts('Call (844) 875-6446 or see https://a.example/x?y=1. Press “Sign in” with LG33.\n1. Wait 2 days') == (
        "(844) 875-6446", "https://a.example/x?y=1", "Sign in", "LG33", "2",
    )  # fmt: skip


def test_steps_stay_numbered() -> None:
    """Who asks how gets the steps, with their numbers."""
    clean = next(sample for sample in ANSWERED if sample.id == "shop:kettle#1")
    assert "1. Unplug the kettle.\n2. Wipe it with code LG10." in clean.answer


def test_without_its_passage_a_question_has_no_answer() -> None:
    """An unanswerable question shows no passage of its article, and its answer is the very sentence that the prompt offers."""
    assert UNKNOWN
    for sample in UNKNOWN:
        assert sample.answer == prompt_text("support_unknown", "en")
        assert (sample.answer_passage, sample.facts, sample.references) == (0, (), ())
        assert sample.group not in {article_of(sample, number) for number in range(1, len(sample.passages) + 1)}


def test_the_share_of_unanswerable_questions_is_kept() -> None:
    """About as many questions as the recipe says have no answer."""
    many = [Article(f"{a.id}-{n}", a.title, a.heading, a.text, a.url, "en") for n in range(12) for a in shelf()]
    samples = build_grounded(many, SECTION, 1, source="shop")
    share = sum(sample.kind is Kind.UNANSWERABLE for sample in samples) / len(samples)
    assert share == pytest.approx(SECTION.unanswerable, abs=0.06)


def test_nothing_is_unanswerable_when_the_recipe_says_so() -> None:
    """A share of zero leaves only questions with an answer."""
    section = SECTION.model_copy(update={"unanswerable": 0.0})
    assert {sample.kind for sample in build_grounded(shelf(), section, 7, source="shop")} == {Kind.GROUNDED}


def test_distractors_are_of_other_articles() -> None:
    """Beside the right passage stand two to three in all, none twice, and none of the same article, which might answer too."""
    for sample in ANSWERED:
        others = [article_of(sample, number) for number in range(1, len(sample.passages) + 1) if number != sample.answer_passage]
        assert 1 <= len(others) <= SECTION.passages - 1
        assert sample.group not in others
        assert len(set(sample.passages)) == len(sample.passages)


def test_some_distractors_are_hard() -> None:
    """A passage that shares the question's words stands beside the right one more often than chance would put it there."""
    cleaning = [sample for sample in ANSWERED if sample.id.endswith("#1")]
    alike = sum(any("clean" in p.title for n, p in enumerate(s.passages, 1) if n != s.answer_passage) for s in cleaning)
    assert alike > len(cleaning) * 0.6


def test_the_right_passage_may_stand_anywhere() -> None:
    """The number of the right passage cannot be guessed."""
    assert {sample.answer_passage for sample in ANSWERED} == {1, 2, 3}


def test_equal_arguments_give_equal_samples() -> None:
    """Building again gives the same samples; another seed gives others; ids are unique."""
    assert build_grounded(shelf(), SECTION, 7, source="shop") == SAMPLES
    assert build_grounded(shelf(), SECTION, 8, source="shop") != SAMPLES
    assert len({sample.id for sample in SAMPLES}) == len(SAMPLES)


def test_languages_are_not_mixed() -> None:
    """Passages are in the language of the question."""
    chinese = [Article(f"shop:{a.id}", a.title, f"如何使用{a.heading[-6:]}", a.text, a.url + "/zh", "zh") for a in shelf()]
    for sample in build_grounded([*shelf(), *chinese], SECTION, 3, source="shop"):
        assert {passage.source.endswith("/zh") for passage in sample.passages} == {sample.language == "zh"}


def test_a_chinese_question_is_declined_in_chinese() -> None:
    """The honest sentence is the one of the question's language."""
    chinese = [Article(a.id, a.title, f"{a.heading}怎么办", a.text, a.url, "zh") for a in shelf()]
    samples = build_grounded(chinese, SECTION, 3, source="shop")
    assert {s.answer for s in samples if s.kind is Kind.UNANSWERABLE} == {prompt_text("support_unknown", "zh")}


def test_too_few_articles_give_no_questions() -> None:
    """Where nothing can stand beside the right passage, nothing is asked."""
    assert build_grounded(shelf()[:2], SECTION, 7, source="shop") == []
    assert build_grounded([], SECTION, 7, source="shop") == []


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_training_prompt_shows_what_a_test_asks(seed: int) -> None:
    """Built for each side of a split alone, no passage stands on two sides, whatever the seed."""
    places = split_groups([article.id for article in shelf()], SplitSection(valid=0.2, test=0.3), seed)
    shown = {
        split: {
            passage
            for sample in build_grounded([a for a in shelf() if places[a.id] == split], SECTION, seed, source="shop")
            for passage in sample.passages
        }
        for split in ("train", "valid", "test")
    }
    assert not shown["train"] & shown["test"]
    assert not shown["train"] & shown["valid"]


@pytest.mark.parametrize(
    ("heading", "pattern"),
    [
        ("Why is my account locked?", r".*[Ww]hy is my account locked\?.*"),
        ("How to change your password", r".*change my password.*"),
        ("Turn Bluetooth on or off", r".*turn Bluetooth on or off.*"),
        ("My backup codes don’t work", r".*[Mm]y backup codes don’t work\..*"),
        ("Files", r".*files.*\(Set file permissions\)|Files.*\(Set file permissions\)"),
    ],
)
def test_headings_are_asked_as_customers_ask(heading: str, pattern: str) -> None:
    """Whatever its form, a heading becomes something that a customer would write, in more than one wording."""
    wordings = {ask(heading, "Set file permissions", "en", Random(seed)) for seed in range(30)}
    assert len(wordings) > 1
    assert all(re.fullmatch(pattern, wording) for wording in wordings), wordings


def test_other_languages_are_asked_in_their_own_words() -> None:
    """A heading in Chinese is asked in Chinese; where there are no wordings, the heading itself is the question."""
    assert all("重置密码" in ask("重置密码", "帐户", "zh", Random(seed)) for seed in range(9))
    assert ask("¿Cómo cambio mi contraseña?", "Cuenta", "es", Random(1)) == "¿Cómo cambio mi contraseña?"


def test_a_lead_in_alone_is_no_answer() -> None:
    """A passage whose list was cut off gives a sentence that stands alone, or nothing."""
    units = read_units("Do this:\n\n1. Open it.\n2. Close it.")
    assert quote(units, "How do I do it?", wants_steps=True, is_whole=True) == "Do this:\n1. Open it.\n2. Close it."
    assert quote(units[:2], "How do I do it?", wants_steps=True, is_whole=False) == ""
