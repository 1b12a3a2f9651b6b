"""The recipes that come with Kefu can be followed, and what they need lies beside them with its licence."""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from finetune.cleaning.scrub import Scrubber
from finetune.cleaning.text import has_placeholder
from finetune.config import load_recipe
from finetune.dataset import SPLITS
from finetune.prepare import Prepared, prepare
from finetune.samples import Kind, Sample, decode_sample

RECIPES = Path(__file__).parents[2] / "finetune" / "recipes"
DATA = RECIPES / "data"
OWN = ("support-en", "demo")
LARGEST = 3 << 20  # bytes of all data: they are in every clone
FILES = sorted(path for path in DATA.rglob("*.jsonl"))
NOTICES = ("LICENSE", "ATTRIBUTION.md", "README.md")
LICENCES = {"CC0-1.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0", "CDLA-Sharing-1.0"}


@cache
def prepared(name: str) -> Prepared:
    """Return the dataset of a recipe, measured in no tokens."""
    return prepare(load_recipe(RECIPES / f"{name}.toml"), None, name=name)


def samples(name: str, split: str) -> list[Sample]:
    """Return the samples of one split."""
    return [decode_sample(line) for line in prepared(name).content.files[split].decode().splitlines() if line]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DATA)))
def test_every_data_file_has_its_licence_beside_it(path: Path) -> None:
    """Whoever passes a file on finds where it comes from, and under which licence."""
    beside = "\n".join(each.read_text(encoding="utf-8") for each in path.parent.iterdir() if each.name in NOTICES)
    assert re.search(r"CC0|CC BY-SA|MIT|Apache-2\.0|CDLA-Sharing", beside)
    assert re.search(r"github\.com|Debian", beside)


def test_the_data_is_small() -> None:
    """All data together is a few megabytes."""
    assert sum(path.stat().st_size for path in DATA.rglob("*")) < LARGEST


@pytest.mark.parametrize("name", OWN)
def test_recipes_name_what_is_there(name: str) -> None:
    """Each source exists, is described, and has a licence that allows passing it on and training."""
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert recipe.name == name
    for source in recipe.source:
        assert source.path is not None
        assert source.path.is_file()
        assert source.origin
        assert source.licence in LICENCES


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_in_two_splits(name: str) -> None:
    """No article, conversation or passage that a test asks about is seen in training."""
    made = {split: samples(name, split) for split in SPLITS}
    groups = {split: {sample.group for sample in items} for split, items in made.items()}
    passages = {split: {passage.text for sample in items for passage in sample.passages} for split, items in made.items()}
    assert not groups["train"] & (groups["valid"] | groups["test"])
    assert not passages["train"] & (passages["valid"] | passages["test"])


@pytest.mark.parametrize("name", OWN)
def test_each_source_is_in_every_large_split(name: str) -> None:
    """A bound on the number of samples takes from train and test alike; what a recipe keeps for training is in no test."""
    sources = load_recipe(RECIPES / f"{name}.toml").source
    for split in ("train", "test"):
        assert {sample.source for sample in samples(name, split)} == {source.name for source in sources if source.split in {"auto", split}}


@pytest.mark.parametrize("name", OWN)
def test_the_mix_is_balanced(name: str) -> None:
    """Samples without passages are answered, in both skills; refusals are half of those with passages, and a small part of all."""
    kinds = Counter(sample.kind for sample in samples(name, "train"))
    without = Counter(sample.skill for sample in samples(name, "train") if not sample.passages)
    assert kinds[Kind.UNANSWERABLE] < 1.1 * kinds[Kind.GROUNDED]
    assert kinds[Kind.UNANSWERABLE] < 0.3 * kinds.total()
    assert without["support"] > 20
    assert without["chat"] > 10


def test_replies_hold_no_placeholder() -> None:
    """No reply of the adapter that ships was trained with a placeholder, which it would show to customers."""
    for split in SPLITS:
        for sample in samples("support-en", split):
            replies = [turn.content for turn in sample.turns[1::2]]
            assert not any(has_placeholder(reply) for reply in replies)
            if not sample.passages:
                assert not any(f"[{kind}]" in reply for reply in replies for kind in ("PERSON", "EMAIL", "PHONE", "ADDRESS"))


def test_shipped_dialogues_were_chosen_by_the_scrubber() -> None:
    """The replies of the dialogues hold nothing that the scrubber finds: a fresh look at what comes with Kefu."""
    scrubber = Scrubber()
    for name in ("star", "sgd"):
        lines = (DATA / name / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()[::12]
        replies = [turn["content"] for line in lines for turn in json.loads(line)["messages"] if turn["role"] == "assistant"]
        assert [found for reply in replies for found in scrubber.find(reply)] == []
