"""`kefu finetune pretrain` as a person calls it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from dialogue.config import DialogueConfig, EngineConfig, ProgramConfig
from finetune.cli import app
from finetune.errors import FinetuneError, RecipeInvalid, TrainingFailed
from storage.testing import sqlite_config
from tests.finetune.pretraining.recipes import DECODER, TRAIN, write_corpus, write_recipe


def call(folder: Path, *arguments: str) -> Any:
    """Run the command with its data below `folder`."""
    program = ProgramConfig(
        dialogue=DialogueConfig(),
        engine=EngineConfig(cache_dir=folder / "cache"),
        storage=sqlite_config(folder),
        data_dir=folder / "data",
        index_url="",
        hub_url="",
    )
    return CliRunner().invoke(app, ["pretrain", *arguments], obj=SimpleNamespace(program_config=lambda: program))


def test_help_has_examples(tmp_path: Path) -> None:
    """The help shows how to train from scratch and how to go on with a model."""
    output = call(tmp_path, "--help").output
    assert "finetune/recipes/tiny.toml" in output
    assert "base =" in output


def test_result_and_goal(tmp_path: Path) -> None:
    """The result is one JSON object on stdout, progress is not; a goal that is missed fails, and the model is there all the same.

    Without --out each run gets a folder of its own below the data folder.
    """
    recipe = str(write_recipe(tmp_path, write_corpus(tmp_path, count=6), DECODER, TRAIN.replace("max_steps = 48", "max_steps = 1")))
    results = [call(tmp_path, "--recipe", recipe, "--json") for _ in range(2)]
    values = [json.loads(result.stdout) for result in results]
    assert all(isinstance(result.exception, TrainingFailed) for result in results)
    assert [value["run"] for value in values] == [str(tmp_path / "data" / "pretrained" / name) for name in ("small", "small-2")]
    assert values[0]["held_out_loss"] == values[1]["held_out_loss"] > values[0]["goal"]
    assert not values[0]["reached"]
    assert (Path(values[0]["run"]) / "model" / "model.safetensors").is_file()
    assert "held-out loss" in results[0].stderr


def test_mistakes(tmp_path: Path) -> None:
    """A recipe that is not there, an empty corpus and --resume without a folder are told before anything is written."""
    assert isinstance(call(tmp_path, "--recipe", str(tmp_path / "missing.toml")).exception, RecipeInvalid)
    corpus = tmp_path / "empty"
    corpus.mkdir()
    recipe = str(write_recipe(tmp_path, corpus, DECODER, TRAIN))
    failed = call(tmp_path, "--recipe", recipe, "--out", str(tmp_path / "run")).exception
    assert isinstance(failed, RecipeInvalid)
    assert str(failed).startswith("corpus.path: ")
    assert not (tmp_path / "run").exists()
    with pytest.raises(FinetuneError, match="--resume needs the folder"):
        raise call(tmp_path, "--recipe", recipe, "--resume").exception
