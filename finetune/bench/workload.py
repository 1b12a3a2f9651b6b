"""What the arms train: a model, and rows of real dialogues and articles as the chat would render them.

Without a dataset of one's own the rows come from the recipe of the demonstration. For a quick look the model is a tiny decoder of
random weights, its vocabulary trained on the tiny corpus that lies beside the recipes.
"""

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dialogue.engine.model_sources import ModelSources
from finetune import dataset
from finetune.bench.work import TRL_BATCH, Data
from finetune.config import load_recipe
from finetune.errors import DatasetInvalid
from finetune.prepare import prepare
from finetune.pretraining.config import DecoderSection
from finetune.pretraining.models import build_decoder
from finetune.pretraining.vocabulary import save_chat_vocabulary, train_vocabulary
from finetune.rendering import Row, RowRenderer, build_renderer
from finetune.samples import Sample
from finetune.training.base_model import BaseFiles, find_base
from finetune.training.examples import render_some

HELD_OUT_ROWS: Final = 16
_RECIPES: Final = Path(__file__).parents[1] / "recipes"
_TINY: Final = DecoderSection(layers=2, d_model=64, heads=4, feed_forward=128, vocabulary=1024, positions=2048)


@dataclass(frozen=True, slots=True)
class Workload:
    """A model on this machine, and the rows of all arms."""

    base: BaseFiles
    data: Data
    rows: int  # different rows that are trained


def build_workload(  # noqa: PLR0917 - what a bench is made of
    reference: str, cache_dir: Path, sources: ModelSources, dataset_folder: Path | None, size: tuple[int, int | None], row_tokens: int
) -> Workload:
    """Return the rows of `size` = (steps, different rows or None for as many as there are).

    Raises ModelError, TemplateError, FinetuneError.
    """
    base = find_base(reference, cache_dir, sources)
    recipe = load_recipe(_RECIPES / "demo.toml")
    renderer = build_renderer(base.template, base.tokenizer, recipe.dialogue_config(), row_tokens)
    train, held_out = (list(render_some(samples, renderer).rows) for samples in _samples(dataset_folder, renderer))
    if not train or not held_out:
        what = "held out" if train else "to train on"
        raise DatasetInvalid(f"{dataset_folder or 'The demonstration'} has nothing {what}.", hint="`kefu finetune data show` says more.")
    steps, most = size
    rows = spread_over(train, steps * TRL_BATCH, most, recipe.seed)
    judged = spread_over(held_out, min(HELD_OUT_ROWS, len(held_out)), None, recipe.seed)
    return Workload(base, Data.of(rows, judged), len(set(rows)))


def _samples(folder: Path | None, renderer: RowRenderer) -> tuple[Sequence[Sample], Sequence[Sample]]:
    if folder is not None:
        return dataset.read_split(folder, "train"), dataset.read_split(folder, "valid")
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "data"
        prepare(load_recipe(_RECIPES / "demo.toml"), renderer, name="demo.toml").write(made)
        return dataset.read_split(made, "train"), dataset.read_split(made, "test")


def spread_over(rows: Sequence[Row], needed: int, most: int | None, seed: int) -> list[Row]:
    """Return `needed` rows out of at most `most` different ones, all seen about equally often; the same seed gives the same."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    pool = chance.sample(rows, min(len(rows), needed if most is None else most))
    result: list[Row] = []
    while len(result) < needed:
        result += chance.sample(pool, len(pool))
    return result[:needed]


def write_tiny_model(folder: Path, seed: int = 5) -> Path:
    """Write a decoder of random weights with its vocabulary and template, and return its folder."""
    lines = (_RECIPES / "data" / "tiny" / "help.jsonl").read_text(encoding="utf-8").splitlines()
    vocabulary = train_vocabulary((json.loads(line)["text"] for line in lines), _TINY.vocabulary)
    build_decoder(_TINY, vocabulary.get_vocab_size(), seed).save_pretrained(folder)
    save_chat_vocabulary(vocabulary, folder, _TINY.positions)
    return folder
