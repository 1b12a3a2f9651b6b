"""`kefu finetune prepare` and `kefu finetune data` as a person calls them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import finetune.gather
from finetune.errors import FinetuneError
from finetune.sources.guess import guess_recipe
from tests.bot.cli.program import Program, make_program
from tests.finetune.making import DATA, faq, write_lines
from tests.finetune.training.tiny import write_tiny

RECIPE = """
name = "shop"
model = "{model}"
[train]
row_tokens = 2000
[[source]]
name = "faq"
path = "faq.jsonl"
map = "pairs"
licence = "CC0-1.0"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; only its tokenizer and template are read."""
    return write_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture
def program(tmp_path: Path, model: Path) -> Program:
    """An installation with a recipe, and a source in which line 41 is broken."""
    made = make_program(tmp_path, KEFU_MODEL__REFERENCE=str(model), KEFU_ENGINE__KIND="scripted")
    (made.folder / "shop.toml").write_text(RECIPE.format(model=model))
    write_lines(made.folder / "faq.jsonl", [*(faq(number) for number in range(40)), "{broken"])
    return made


def hidden(folder: Path) -> list[str]:
    """Return everything that a preparation could have left behind."""
    return [path.name for path in folder.rglob("*") if path.name.startswith(".") and path.is_dir()]


def test_a_dataset_is_named_by_its_content(program: Program) -> None:
    """Without --out it lies below the data folder under name and version; the table says what became of every row."""
    ended = program.call("finetune", "prepare", "--recipe", "shop.toml")
    assert ended.code == 0, ended.stderr
    (folder,) = (program.data_dir / "datasets").iterdir()
    assert re.fullmatch(r"shop-[0-9a-f]{12}", folder.name)
    assert re.search(r"faq +41 +40 +1 ", ended.stdout)
    assert re.search(r"faq +dropped +broken JSON +1 +faq.jsonl, line 41", ended.stdout)
    assert ended.stdout.splitlines()[-1] == f"Dataset: {folder}"


def test_json_is_the_manifest(program: Program) -> None:
    """With --json, stdout is one JSON document; the same recipe gives the same folder again."""
    documents = [json.loads(program.call("finetune", "prepare", "--recipe", "shop.toml", "--json").stdout) for _ in range(2)]
    assert documents[0]["version"] == documents[1]["version"]
    assert documents[0]["sources"][0]["dropped"] == {"broken JSON": 1}
    assert Path(documents[0]["dataset"]).is_dir()
    assert len(list((program.data_dir / "datasets").iterdir())) == 1


def test_strict_names_the_row(program: Program) -> None:
    """With --strict a broken row ends the command with exit code 1 and its place, and nothing is written."""
    ended = program.call("finetune", "prepare", "--recipe", "shop.toml", "--out", "d", "--strict")
    assert ended.code == 1
    assert "faq.jsonl, line 41: broken JSON" in ended.stderr
    assert not (program.folder / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 1, "either a recipe or a source"),
        (("--recipe", "shop.toml", "--source", "faq.jsonl"), 1, "either a recipe or a source"),
        (("--recipe", "gone.toml"), 78, "gone.toml"),
        (("--source", "gone.csv"), 2, "gone.csv"),
    ],
)
def test_mistakes_are_sentences(program: Program, arguments: tuple[str, ...], code: int, words: str) -> None:
    """Whatever is named wrongly is answered with a sentence and an exit code, without a traceback."""
    ended = program.call("finetune", "prepare", *arguments)
    assert (ended.code, words in ended.stderr) == (code, True)
    assert "Traceback" not in ended.stderr


def test_a_missing_source_is_a_mistake_of_the_recipe(program: Program) -> None:
    """A recipe whose source is gone is a matter of configuration: exit code 78, with recipe and source."""
    (program.folder / "faq.jsonl").unlink()
    ended = program.call("finetune", "prepare", "--recipe", "shop.toml")
    assert ended.code == 78
    assert "shop.toml: source faq" in ended.stderr


def test_ctrl_c_leaves_nothing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of a source, the command ends with 130 and has written nothing."""

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetune.gather, "map_row", interrupted)
    ended = program.call("finetune", "prepare", "--recipe", "shop.toml", "--out", "sets/d")
    assert ended.code == 130
    assert not (program.folder / "sets").exists()
    assert hidden(program.folder) == []


def test_a_source_without_a_recipe(program: Program) -> None:
    """A table becomes a dataset, and it is told what its columns were taken for."""
    lines = ["Question;Answer", *(";".join(faq(number).values()) for number in range(9))]
    (program.folder / "help.csv").write_text("\n".join(lines))
    ended = program.call("finetune", "prepare", "--source", "help.csv", "--out", "d")
    assert ended.code == 0, ended.stderr
    assert 'Guessed: map = "pairs", fields = { question = "Question", answer = "Answer" }' in ended.stderr
    shown = program.call("finetune", "data", "show", "d", "--sample", "1")
    assert shown.code == 0
    assert "user: " in shown.stdout
    assert json.loads(program.call("finetune", "data", "show", "d", "--json").stdout)["sources"][0]["rows"] == 9


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("star.jsonl", "messages"),
        ("tau_bench.jsonl", "transcript"),
        ("chatterbot.jsonl", "messages"),
        ("self_instruct.jsonl", ""),
        ("scitldr.jsonl", "summary"),
        ("login_gov_pages", "articles"),
        ("e2e.csv", ""),
    ],
)
def test_guesses(name: str, mapping: str) -> None:
    """Columns with usual names are understood; others are named, and nothing is invented for them."""
    if mapping:
        assert guess_recipe(DATA / name, "m").recipe.source[0].map == mapping
    else:
        with pytest.raises(FinetuneError, match=r"nobody can tell .*\(\w"):
            guess_recipe(DATA / name, "m")


def test_datasets_are_compared(program: Program) -> None:
    """`data diff` says which samples came, went and changed, and what the recipes say otherwise."""
    program.call("finetune", "prepare", "--recipe", "shop.toml", "--out", "one")
    rows = [*(faq(number) for number in range(1, 41)), {**faq(50), "answer": "A new answer, quite another one."}]
    rows[4] = {**rows[4], "answer": "It was moved to the shop around the corner, next to the bakery."}
    write_lines(program.folder / "faq.jsonl", rows)
    recipe = (program.folder / "shop.toml").read_text().replace('map = "pairs"', 'map = "pairs"\nmax_samples = 100')
    (program.folder / "shop.toml").write_text(recipe)
    program.call("finetune", "prepare", "--recipe", "shop.toml", "--out", "two")
    same = program.call("finetune", "data", "diff", "one", "one")
    assert (same.code, "The same samples" in same.stdout) == (0, True)
    found = json.loads(program.call("finetune", "data", "diff", "one", "two", "--json").stdout)
    assert not found["equal"]
    assert found["added"] == ["faq:41"]
    assert found["recipe"] == {"source[1].max_samples": [None, 100]}
    assert len(found["changed"]) == 40
    shown = program.call("finetune", "data", "diff", "one", "two").stdout
    assert "1 added, 0 removed, 40 changed" in shown
    assert "source[1].max_samples: None → 100" in shown


def test_a_damaged_dataset_is_named(program: Program) -> None:
    """What is no dataset, or was edited, is answered with a sentence."""
    program.call("finetune", "prepare", "--recipe", "shop.toml", "--out", "d")
    train = program.folder / "d" / "train.jsonl"
    train.write_text(train.read_text().replace("manual", "book"))
    ended = program.call("finetune", "data", "diff", "d", "d")
    assert (ended.code, "not as it was written" in ended.stderr) == (1, True)
    assert "no dataset" in program.call("finetune", "data", "show", ".").stderr
