"""The suites over models that answer by rule: what is counted, what is compared, what decides."""

import pytest

from finetune.errors import FinetuneError
from finetune.evaluation.builtin import BUILT_IN, built_in_samples, example_turns
from finetune.evaluation.contenders import Place
from finetune.evaluation.evaluate import turned
from finetune.evaluation.grounding import citations
from finetune.evaluation.refusals import admits_unknown, refuses
from finetune.evaluation.suites import SUITES
from finetune.evaluation.verdict import Score, Verdict
from finetune.samples import Kind
from tests.finetune.evaluation.scene import Minds, bad, evaluated, good, sample, shop

CANDIDATE, INCUMBENT, BASE = Place.CANDIDATE, Place.INCUMBENT, Place.BASE
LOSSES = {CANDIDATE: 1.0, INCUMBENT: 1.5, BASE: 2.0}


def score(verdict: Verdict, suite: str, measure: str, model: str = "candidate") -> Score:
    return next(each for each in verdict.scores if (each.suite, each.measure, each.model) == (suite, measure, model))


async def test_a_better_model_passes() -> None:
    """A candidate that is better on the main suites and nowhere worse passes, and the reasons say where it is better."""
    verdict = (await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, main=("support_loss", "grounded", "unanswerable"))).verdict
    assert verdict.passed
    assert verdict.reference == "base"
    assert len(verdict.reasons) == 3
    assert score(verdict, "grounded", "cites").value == 1.0
    assert score(verdict, "grounded", "cites", "base").value == 0.0
    assert score(verdict, "unanswerable", "recall").value == 1.0
    assert score(verdict, "unanswerable", "precision").value == 1.0
    assert score(verdict, "injection", "resisted", "base").value == 0.0


async def test_the_incumbent_is_the_one_to_beat() -> None:
    """Where an adapter is active, being better than the base is not enough."""
    rules = {CANDIDATE: good, INCUMBENT: good, BASE: bad}
    verdict = (await evaluated(rules, {CANDIDATE: 1.5, INCUMBENT: 1.5, BASE: 2.0})).verdict
    assert verdict.reference == "incumbent"
    assert not verdict.passed
    assert {comparison.against for comparison in verdict.comparisons} == {"incumbent", "base"}


async def test_an_adapter_without_effect_does_not_pass() -> None:
    """A candidate that says and loses what the base does has gained nothing."""
    verdict = (await evaluated({CANDIDATE: good, BASE: good}, {CANDIDATE: 2.0, BASE: 2.0})).verdict
    assert not verdict.passed
    assert "does not exclude zero" in verdict.reasons[0]


async def test_a_better_loss_does_not_excuse_worse_answers() -> None:
    """A candidate with a better loss that cites wrongly, leaks the secret and no longer says that it does not know fails for that."""
    verdict = (await evaluated({CANDIDATE: bad, BASE: good}, LOSSES)).verdict
    assert not verdict.passed
    reasons = " ".join(verdict.reasons)
    for title in ("Answers from passages", "Questions without an answer", "Forged roles"):
        assert title in reasons


async def test_a_model_that_refuses_everything_does_not_pass() -> None:
    """Refusing everything is right for the unanswerable and wrong for all others."""
    verdict = (await evaluated({CANDIDATE: lambda _: "I do not know that.", BASE: good}, LOSSES)).verdict
    assert not verdict.passed
    assert score(verdict, "unanswerable", "recall").value == 1.0
    assert score(verdict, "unanswerable", "precision").value == 0.5
    assert "Plain questions" in " ".join(verdict.reasons)


async def test_every_suite_runs_and_one_without_samples_is_told() -> None:
    """With samples of every kind all suites have a score; without translations that suite is skipped with a sentence."""
    everything = (await evaluated({CANDIDATE: good, BASE: bad}, LOSSES)).verdict
    assert {each.suite for each in everything.scores} == {suite.name for suite in SUITES}
    assert not everything.skipped
    some = [each for each in shop() if each.kind is not Kind.TRANSLATION]
    without = (await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, some)).verdict
    assert without.skipped == ("Translation: there are no samples for it.",)
    assert all(each.suite != "translation" for each in without.scores)


async def test_a_main_suite_without_samples_fails() -> None:
    """What must get better cannot be left out."""
    some = [each for each in shop() if each.kind is not Kind.TRANSLATION]
    verdict = (await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, some, main=("translation",))).verdict
    assert not verdict.passed
    assert "Translation must get better, but could not be compared." in verdict.reasons


async def test_the_base_alone_is_shown_examples() -> None:
    """Before questions with passages the base sees two examples; the candidate gets the chat's own prompt. Other questions are equal."""
    minds = Minds({"candidate": good, None: bad})
    await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, engine=minds, suites=("grounded", "plain_chat"))
    example = example_turns("en")[0].content.split("\n")[0]
    with_passages = {name for name, text in minds.asked if example in text}
    assert with_passages == {None}
    assert all("How long" in text or "boats" in text for _, text in minds.asked if example in text)
    plain = {name: sorted(text for who, text in minds.asked if who == name and "Count to" in text) for name in (None, "candidate")}
    assert plain[None] == plain["candidate"] != []


async def test_an_owners_instructions_come_with_the_sample() -> None:
    """A sample that brings instructions is asked with them; the others are not."""
    minds = Minds({"candidate": good, None: bad})
    await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, engine=minds, suites=("injection", "grounded"))
    for _, text in minds.asked:
        assert ("The secret is Flower." in text) == ("Tell the secret" in text)


async def test_a_dialogue_is_asked_where_facts_are() -> None:
    """Of a dialogue the reply with the most facts is asked for, not the farewell, with the turns before it as history."""
    talk = sample(0, Kind.DIALOGUE, "Hello", "Hello!")
    more = [sample(1, Kind.DIALOGUE, "Where is 12?", "Order 12 arrives on 12/05 at 10:00."), sample(2, Kind.DIALOGUE, "Bye", "Goodbye.")]
    talk = type(talk)(**{name: getattr(talk, name) for name in talk.__slots__} | {"turns": (*talk.turns, *more[0].turns, *more[1].turns)})
    minds = Minds({"candidate": good, None: bad})
    evaluation = await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, [talk], engine=minds, suites=("support_answers",), main=())
    assert evaluation.questions[0].sample.answer == "Order 12 arrives on 12/05 at 10:00."
    assert "Hello!" in minds.asked[0][1]
    assert "Goodbye" not in minds.asked[0][1]


async def test_the_same_samples_are_asked_every_time() -> None:
    """At most so many of each kind, chosen by the seed alone: not by the order in which they lie in the file."""
    first = await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, shop(20), samples=4)
    turned = await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, shop(20)[::-1], samples=4)
    assert [question.sample.id for question in first.questions] == [question.sample.id for question in turned.questions]
    kinds = [question.sample.id.partition(":")[0] for question in first.questions]
    assert max(kinds.count(kind) for kind in kinds) == 4
    assert first.verdict.comparisons[0] == turned.verdict.comparisons[0]


async def test_an_unknown_suite_is_named() -> None:
    """A suite that does not exist is a mistake of the recipe, and those that do are listed."""
    with pytest.raises(FinetuneError, match="There is no suite 'poetry'") as caught:
        await evaluated({CANDIDATE: good, BASE: bad}, LOSSES, suites=("poetry",))
    assert "grounded" in caught.value.hint


def test_the_built_in_samples_are_what_they_say() -> None:
    """Fifty plain questions, attacks that their own answers do not obey, and answers that are none of them refusals."""
    by_suite = {name: [each for each in built_in_samples() if each.extra["suite"] == name] for name in BUILT_IN}
    assert len(by_suite["plain_chat"]) == 50
    assert not any(refuses(each.answer) for each in by_suite["plain_chat"])
    resisted = next(suite for suite in SUITES if suite.name == "injection").headline.judge
    assert all(resisted(each, each.answer).numerator == 1 for each in by_suite["injection"])
    assert all(resisted(each, f"It is {each.extra['forbidden']}.").numerator == 0 for each in by_suite["injection"])
    assert len({each.id for each in built_in_samples()}) == len(built_in_samples())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_examples_cite_and_do_not_know(language: str) -> None:
    """The first example names its passage, the second says that it does not know, in the language of the sample."""
    turns = example_turns(language)
    assert citations(turns[1].content) == (2,)
    assert admits_unknown(turns[3].content)


async def test_no_cache_makes_a_model_look_quick() -> None:
    """No two of the questions that are timed for one model begin alike, though all prompts of the chat do."""
    minds = Minds({CANDIDATE.value: good, None: good})
    await evaluated({CANDIDATE: good, BASE: good}, LOSSES, engine=minds, suites=("latency",), main=())
    timed = [prompt for name, prompt in minds.asked if name is None]
    assert len({prompt[:20] for prompt in timed}) == len(timed) > 1


@pytest.mark.parametrize(("by", "expected"), [(0, (1, 2, 3)), (1, (2, 3, 1)), (3, (1, 2, 3)), (4, (2, 3, 1))])
def test_a_turned_prompt(by: int, expected: tuple[int, ...]) -> None:
    """A prompt is turned round, however short it is."""
    assert turned((1, 2, 3), by) == expected
    assert turned((), by) == ()
