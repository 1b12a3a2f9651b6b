"""The commands of training: what they print, and how they end."""

import json
from pathlib import Path

import pytest

from bot.cli.main import run
from finetune.training.fit import Outcome
from finetune.training.plan import read_plan
from tests.finetune.training.tiny import write_tiny, write_tiny_dataset

RECIPE = """
name = "tiny"
model = "model"
[train]
row_tokens = 256
max_steps = 2
evaluate_every = 2
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, a dataset and a recipe; settings and cache lie in it too."""
    write_tiny(tmp_path / "model")
    write_tiny_dataset(tmp_path / "data")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "kefu.toml").write_text(f'[paths]\ncache_dir = "{tmp_path / "cache"}"\ndata_dir = "{tmp_path / "own"}"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["finetune", "train", "--recipe", "recipe.toml", "--data", "data", "--out", "run"]


def test_train_export_merge(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is trained, exported and merged by three commands; results go to stdout, progress to stderr."""
    assert run([*TRAIN, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 2
    assert "trained tokens" in captured.err
    assert run(["finetune", "export", "run", "--gguf", "lora.gguf"]) == 0
    assert run(["finetune", "export", "run", "--merged", "--gguf", "whole.gguf"]) == 0
    assert run(["finetune", "export", "--model", "model", "--gguf", "model.gguf"]) == 0
    assert run(["finetune", "merge", "run", "--out", "merged"]) == 0
    printed = capsys.readouterr().out.split()
    assert [Path(line).name for line in printed] == ["lora.gguf", "whole.gguf", "model.gguf", "merged"]
    assert all(Path(line).exists() for line in printed)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*TRAIN[:3], "nothing.toml", *TRAIN[4:]], 78, "nothing.toml cannot be read"),
        ([*TRAIN[:5], "nowhere", *TRAIN[6:]], 1, "is no dataset"),
        ([*TRAIN, "--resume"], 1, "no plan"),
        (["finetune", "merge", "nowhere", "--out", "merged"], 1, "is no finished training run"),
        (["finetune", "export", "nowhere", "--gguf", "a.gguf"], 1, "is no finished training run"),
        (["finetune", "export", "--gguf", "a.gguf"], 2, "Name a run"),
        (["finetune", "export", "--model", "model", "--gguf", "recipe.toml"], 1, "is there already"),
    ],
)
def test_mistakes_end_in_a_sentence(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str) -> None:
    """A mistake is told in a sentence, with the exit code that the house has for it."""
    assert run(arguments) == code
    told = capsys.readouterr().err
    assert words in " ".join(told.replace("│", " ").split())
    assert "Traceback" not in told


def test_a_plan_for_several_devices(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--plan-only trains nothing: it writes the plan and prints the command that runs it."""
    assert run([*TRAIN, "--plan-only"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == f"accelerate launch -m finetune.training.process {place / 'run' / 'plan.json'}"
    assert read_plan(place / "run" / "plan.json").recipe.name == "tiny"
    assert [path.name for path in (place / "run").iterdir()] == ["plan.json"]


def test_ctrl_c_ends_with_130(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted run says how to go on, and ends with the exit code of Ctrl-C."""
    stopped = Outcome(3, 9, None, None, 1.0, 10, 1.0, 1.0, interrupted=True, is_main=True)

    def stop(*_: object, **__: object) -> Outcome:
        return stopped

    monkeypatch.setattr("finetune.training.architectures.run_plan", stop)
    assert run(TRAIN) == 130
    assert "Stopped after step 3 of 9. Go on with the same command and --resume." in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "merge", "export"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of each command ends with an example."""
    assert run(["finetune", command, "--help"]) == 0
    assert f"Example: kefu finetune {command}" in capsys.readouterr().out
