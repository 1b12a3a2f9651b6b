"""Pairs of words in two languages, and plans that train a tiny encoder–decoder with them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from dialogue.messages import ChatMessage, Role
from finetune.config import Recipe, parse_recipe
from finetune.dataset import encode_splits, write_dataset
from finetune.manifest import DatasetManifest, SourceManifest
from finetune.samples import Kind, Sample
from finetune.training.plan import TrainingPlan
from tests.fakes.tiny_seq2seq import write_tiny

WORDS: Final = ("parcel", "order", "Monday", "world", "Hello")
GERMAN: Final = ("Paket", "Bestellung", "Montag", "Welt", "Hallo")
COUNT: Final = len(WORDS) ** 2  # of different pairs


def pair_sample(number: int, *, skill: str = "translate", question: str | None = None) -> Sample:
    """Return the translation of two words, a prompt of its own for each number below COUNT."""
    english, german = pair_texts(number)
    return Sample(
        id=f"tiny:{number}",
        kind=Kind.TRANSLATION,
        skill=skill,
        language="de",
        group=str(number),
        source="tiny",
        turns=(ChatMessage(Role.USER, question or f"en>de {english}"), ChatMessage(Role.ASSISTANT, german)),
    )


def pair_texts(number: int) -> tuple[str, str]:
    """Return the two words in English and in German."""
    first, second = number % 5, number // 5 % 5
    return f"{WORDS[first]} {WORDS[second]}", f"{GERMAN[first]} {GERMAN[second]}"


def write_pair_dataset(folder: Path) -> Path:
    """Write a dataset of twenty pairs to learn and four to look at on the way."""
    splits = {"train": [pair_sample(number) for number in range(20)], "valid": [pair_sample(number) for number in range(20, 24)]}
    content = encode_splits(splits)
    source = SourceManifest(name="tiny", licence="CC0-1.0", map="translation", origin="made for a test")
    manifest = DatasetManifest(
        version=content.version, name="tiny", created_at="2024-01-01T00:00:00+00:00", kefu="0", splits=content.splits, sources=(source,)
    )
    write_dataset(folder, content, manifest, ())
    return folder


def write_pair_source(path: Path, numbers: Iterable[int]) -> Path:
    """Write some pairs as a file that `kefu finetune prepare` reads."""
    rows = [dict(zip(("source", "target"), pair_texts(number), strict=True)) for number in numbers]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def pair_recipe(model: Path, *, evaluate: dict[str, object] | None = None, sources: list[object] | None = None, **train: Any) -> Recipe:
    """Return a recipe that trains a model for some epochs."""
    section = {"architecture": "seq2seq", "row_tokens": 128, "rows_per_step": 1, "evaluate_every": 20, "learning_rate": 0.02} | train
    values = {"name": "tiny", "model": str(model), "train": section, "evaluate": evaluate or {}, "source": sources or []}
    return parse_recipe(values, "tiny.toml", model.parent)


def pair_plan(place: Path, family: str, **train: Any) -> TrainingPlan:
    """Return the plan of a run in `place` on a random model of a family."""
    recipe = pair_recipe(write_tiny(family, place / "model"), **train)
    return TrainingPlan(recipe=recipe, dataset=write_pair_dataset(place / "data"), run=place / "run", cache_dir=place / "cache")
