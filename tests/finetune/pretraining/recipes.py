"""Recipes of a few thousand weights, their corpora, and what runs them."""

import random
from pathlib import Path
from typing import Any

import pytest

from finetune.pretraining.config import PretrainRecipe, load_pretrain_recipe
from finetune.pretraining.outcome import PretrainManifest
from finetune.pretraining.pretrain import pretrain

WORDS = (
    *("order", "parcel", "refund", "invoice", "address", "delivery", "account", "password", "return", "shop"),
    *("letter", "ticket", "agent", "please", "write", "open", "close", "send", "wait", "thank"),
)
SIZES = "layers = 2\nd_model = 32\nheads = 4\nfeed_forward = 64\n"
DECODER = f"[decoder]\nvocabulary = 300\npositions = 64\n{SIZES}"
PAIRS = f"[encoder_decoder]\ninput_vocabulary = 300\ntarget_vocabulary = 280\ninput_positions = 40\ntarget_positions = 48\n{SIZES}"
TRAIN = """[train]
row_tokens = 64
rows_per_step = 4
rows_per_device = 4
max_steps = 48
epochs = 9
evaluate_every = 16
learning_rate = 0.01
"""


class Silence:
    """A display that shows nothing."""

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        return

    def held_out(self, done: int, loss: float) -> None:
        return


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return sentences whose words follow one another by a rule, so that the context says what comes next."""
    chance = random.Random(seed)
    starts = [chance.randrange(len(WORDS)) for _ in range(count)]
    return [" ".join(WORDS[(start + 3 * place) % len(WORDS)] for place in range(8)) + "." for start in starts]


def write_corpus(folder: Path, count: int = 40) -> Path:
    """Write documents of three sentences each, as text files of a folder."""
    texts = folder / "corpus"
    texts.mkdir(parents=True)
    lines = sentences(3 * count)
    for number in range(count):
        (texts / f"{number:03}.txt").write_text("\n".join([f"Page {number}", *lines[3 * number : 3 * number + 3]]), encoding="utf-8")
    return texts


def write_pairs(folder: Path, count: int = 80) -> Path:
    """Write sentences with the same sentence in capitals."""
    path = folder / "pairs.tsv"
    rows = [f"{number} {text[:24]}\t{number} {text[:24].upper()}" for number, text in enumerate(sentences(count))]
    path.write_text("\n".join(["source\ttarget", *rows]) + "\n", encoding="utf-8")
    return path


def write_recipe(folder: Path, corpus: Path, *sections: str, head: str = "") -> Path:
    """Write a recipe of some sections."""
    path = folder / "recipe.toml"
    corpus_section = f'[corpus]\npath = "{corpus}"\nlicence = "CC0-1.0"\n'
    path.write_text("\n".join(['name = "small"', head, corpus_section, *sections]), encoding="utf-8")
    return path


def run(recipe: Path | PretrainRecipe, folder: Path, **options: Any) -> PretrainManifest:
    """Run a recipe to its end."""
    parsed = recipe if isinstance(recipe, PretrainRecipe) else load_pretrain_recipe(recipe)
    manifest = pretrain(parsed, folder, folder.parent / "cache", Silence(), **options)
    assert manifest is not None, "interrupted"
    return manifest


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of a decoder from scratch."""
    folder = tmp_path_factory.mktemp("small")
    run(write_recipe(folder, write_corpus(folder), DECODER, TRAIN), folder / "run")
    return folder / "run"
