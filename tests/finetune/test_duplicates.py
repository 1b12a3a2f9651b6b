"""Duplicates and leaks: found where they are planted, and nothing else is thrown away."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialogue.skills.base import Passage
from finetune.cleaning.duplicates import EXACT, NEAR, Index, bands, fingerprint, jaccard, shingles
from finetune.leaks import MOVED, REMOVED, find_leaks, settle_leaks
from finetune.ledger import Item
from finetune.samples import Sample
from tests.finetune.making import DATA, item, sample
from tests.sizes import record_proof, size

LONG = "please open the settings of your account and choose the second entry of the list to change the address of your next parcel"


def kept(samples: list[Sample], likeness: float = 0.9) -> list[Sample]:
    """Return what is left when every copy of something earlier goes."""
    index = Index(likeness)
    left: list[Sample] = []
    for one in samples:
        if index.find(fingerprint(one)) is None:
            index.add(fingerprint(one))
            left.append(one)
    return left


def test_chatterbot_has_ten_distinct_talks() -> None:
    """Of 1,050 rows of a public corpus, ten are left."""
    rows = [json.loads(line) for line in (DATA / "chatterbot.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 1050
    assert len(kept([sample(*row) for row in rows])) == 10


def test_copies_are_told_apart() -> None:
    """Case and punctuation make no difference; one word in many makes a near duplicate; another answer makes another sample."""
    index = Index(0.8)
    index.add(fingerprint(sample("How do I change it?", LONG)))
    assert index.find(fingerprint(sample("how do i CHANGE it", f"{LONG}."))) == (0, EXACT)
    assert index.find(fingerprint(sample("How do I change it?", f"{LONG} now"))) == (0, NEAR)
    assert index.find(fingerprint(sample("How do I change it?", "You cannot."))) is None
    assert index.find(fingerprint(sample("Where do I see my last bill?", LONG))) is None


def test_near_duplicates_can_be_kept() -> None:
    """With a likeness of 0 only exact copies are found."""
    samples = [sample("Q one?", LONG), sample("Q one?", f"{LONG} now"), sample("q one", LONG)]
    assert len(kept(samples, 0)) == 2


def test_chinese_is_compared_by_characters() -> None:
    """A long Chinese answer with one other character is a near duplicate, although it has no spaces."""
    text = "您好，您的包裹已经在昨天下午到达本地的配送中心，预计明天上午送到您的家里，请保持电话畅通。"
    assert len(kept([sample("包裹在哪里？", text), sample("包裹在哪里？", text.replace("上午", "下午"))], 0.8)) == 1


@given(st.lists(st.text(max_size=30), max_size=4), st.lists(st.text(max_size=30), max_size=4))
def test_likeness_is_a_likeness(one: list[str], other: list[str]) -> None:
    """It lies between 0 and 1, is 1 for equal texts and does not depend on the order."""
    first, second = shingles(one), shingles(other)
    assert 0 <= jaccard(first, second) == jaccard(second, first) <= 1
    assert jaccard(first, first) == 1


@given(st.floats(0.3, 1))
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    """Whatever the threshold, as many bands are taken as find such a pair nearly always, or as many as there are."""
    count = bands(threshold)
    assert count == 128 or 1 - (1 - threshold ** (128 // count)) ** count >= 0.999


def test_no_near_duplicate_is_missed() -> None:
    """Of random pairs that are at least as alike as the threshold, the index finds every one; it never calls others copies."""
    count = size("near_duplicates", small=200, proof=5000)
    rng = Random(17)
    found = planted = 0
    for _ in range(count):
        words = [f"w{rng.randrange(10_000)}" for _ in range(rng.randrange(40, 90))]
        changed = list(words)
        for _ in range(rng.randrange(3)):
            changed[rng.randrange(len(words))] = "other"
        one, other = sample("What is it?", " ".join(words)), sample("What is it?", " ".join(changed))
        alike = jaccard(fingerprint(one).answered, fingerprint(other).answered) >= 0.9
        index = Index(0.9)
        index.add(fingerprint(one))
        hit = index.find(fingerprint(other)) is not None
        planted += alike
        found += hit and alike
        assert alike or not hit
    record_proof("near_duplicates", seed=17, size=count, result=f"{found} of {planted} near duplicates found, nothing else")
    assert found == planted > count // 4


def splits(train: list[Item], valid: list[Item], test: list[Item]) -> dict[str, list[Item]]:
    return {"train": train, "valid": valid, "test": test}


EXCHANGE = ("how long does it take until my money is back?", "it takes between three and five working days in all countries")


@pytest.mark.parametrize(
    ("held_out", "reason"),
    [
        (item("Another question?", "Another answer.", name="s:2", group="g1"), "same group"),
        (item("how do I change it", LONG, name="s:2", group="g2"), EXACT),
        (item("How do I change it?", f"{LONG} now", name="s:2", group="g2"), NEAR),
        (
            item("Hello?", "Hi!", *EXCHANGE, "Thanks, that was all I had to ask you today", "Bye!", name="s:2", group="g2"),
            "same question and answer",
        ),
    ],
)
def test_planted_leaks_are_found_and_settled(held_out: Item, reason: str) -> None:
    """Each kind of leak is found; its group moves to training with everything in it."""
    train = [item("How do I change it?", LONG, name="s:1", group="g1"), item("Hi?", "Hello!", *EXCHANGE, name="s:4", group="g4")]
    friend = item("Of the same group?", "Yes, it is.", name="s:3", group=held_out.sample.group)
    found = list(find_leaks(splits(train, [], [held_out]), 0.8))
    assert [(leak.later, leak.reason) for leak in found] == [(held_out, reason)]
    settled, done = settle_leaks(splits(train, [], [held_out, friend]), set(), 0.8)
    assert {one.sample.id for one in settled["train"]} == {"s:1", "s:2", "s:3", "s:4"}
    assert settled["test"] == []
    assert {leak.remedy for leak in done} == {MOVED}


def test_a_source_for_the_test_alone_stays_there() -> None:
    """What must be tested stays in the test, and its copy leaves training."""
    train, test = item("How do I change it?", LONG, name="s:1"), item("How do I change it?", LONG, name="t:1", source="t")
    settled, done = settle_leaks(splits([train], [], [test]), {"t"}, 0.9)
    assert settled == splits([], [], [test])
    assert [(leak.remedy, leak.gone) for leak in done] == [(REMOVED, train)]


def test_a_question_with_passages_stays() -> None:
    """It would take passages of other held-out articles into training, so its copy goes instead."""
    train = item("How do I change it?", LONG, name="s:1")
    test = item("How do I change it?", LONG, name="t:1", passages=(Passage("Some text.", "help/other"),))
    settled, done = settle_leaks(splits([train], [], [test]), set(), 0.9)
    assert settled == splits([], [], [test])
    assert [leak.gone for leak in done] == [train]


WORDS = st.sampled_from(["one", "two", "three", f"{LONG} one", f"{LONG} two"])
ITEMS = st.lists(st.tuples(WORDS, WORDS, st.sampled_from(["g1", "g2", "g3", "g4"]), st.sampled_from(["s", "t"])), max_size=5)


@settings(max_examples=50)
@given(st.tuples(ITEMS, ITEMS, ITEMS))
def test_settled_splits_have_no_leak(parts: tuple[list[tuple[str, str, str, str]], ...]) -> None:
    """Whatever is in the splits, nothing is in two of them afterwards, nothing new appears, and samples of a fixed source stay."""
    made = [
        [
            item(asked, said, name=f"{source}:{number}.{place}", group=f"{source}{group}", source=source)
            for place, (asked, said, group, source) in enumerate(part)
        ]
        for number, part in enumerate(parts)
    ]
    before = splits(*made)
    after, done = settle_leaks(before, {"t"}, 0.9)
    assert list(find_leaks(after, 0.9)) == []
    left = [one for items in after.values() for one in items]
    gone = [leak.gone for leak in done if leak.gone is not None]
    assert sorted(one.sample.id for one in (*left, *gone)) == sorted(one.sample.id for items in before.values() for one in items)
    for split, items in after.items():
        assert all(one in before[split] for one in items if one.sample.source == "t")
