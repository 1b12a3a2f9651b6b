"""Corpora: what is read, what is refused, and that nothing held out is trained."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import DataInvalid, RecipeInvalid
from finetune.pretraining.config import CorpusSection
from finetune.pretraining.corpus import Pair, read_documents, read_pairs, split


def section(path: Path, **options: object) -> CorpusSection:
    return CorpusSection.model_validate({"path": path, "licence": "CC0-1.0", **options})


def test_a_folder_of_every_kind(tmp_path: Path) -> None:
    """Text, Markdown and JSONL of a folder and its subfolders become documents; other files and blank documents do not."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    (tmp_path / "deep" / "b.md").write_text("\ufeff# two\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "three"}\n\n{"text": " "}\n{"text": "four\\u2028five"}\n', encoding="utf-8")
    (tmp_path / "d.pdf").write_bytes(b"%PDF")
    corpus = read_documents(section(tmp_path), seed=1)
    assert sorted(corpus.train + corpus.valid) == ["# two", "four\u2028five", "one", "three"]


def test_a_single_file_is_cut(tmp_path: Path) -> None:
    """Of a single document the last lines are held out."""
    (tmp_path / "book.txt").write_text("".join(f"line {number}\n" for number in range(20)), encoding="utf-8")
    corpus = read_documents(section(tmp_path / "book.txt", valid=0.2), seed=1)
    assert (corpus.train[0].splitlines()[-1], corpus.valid[0].splitlines()[0]) == ("line 15", "line 16")


@pytest.mark.parametrize("content", ["", "  \n", "only one line"])
def test_too_little_text(content: str, tmp_path: Path) -> None:
    """A corpus that is empty or cannot be split is refused with the key to change."""
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(RecipeInvalid, match=r"corpus\.path: .*too little text"):
        read_documents(section(tmp_path), seed=1)


def test_nothing_to_read(tmp_path: Path) -> None:
    """A path without anything, or without files of a known ending, is refused."""
    with pytest.raises(RecipeInvalid, match="there is nothing at"):
        read_documents(section(tmp_path / "missing"), seed=1)
    with pytest.raises(RecipeInvalid, match="holds no file that ends in"):
        read_pairs(section(tmp_path), seed=1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [('{"text": ', "broken JSON"), ('{"words": "x"}', "missing field"), ("[1]", "no JSON object"), ('{"text": 3}', "missing field")],
)
def test_broken_lines(line: str, reason: str, tmp_path: Path) -> None:
    """A broken line is reported with file, line and reason."""
    (tmp_path / "a.jsonl").write_text(f'{{"text": "good"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataInvalid) as caught:
        read_documents(section(tmp_path), seed=1)
    assert (caught.value.line, caught.value.reason, caught.value.file) == (2, reason, str(tmp_path / "a.jsonl"))


def test_wrong_encoding(tmp_path: Path) -> None:
    """A file that is not UTF-8 is reported with the line of the first wrong byte."""
    (tmp_path / "a.txt").write_bytes(b"good\nbad \xe9\n")
    with pytest.raises(DataInvalid) as caught:
        read_documents(section(tmp_path), seed=1)
    assert (caught.value.line, caught.value.reason) == (2, "wrong encoding")


def test_pairs(tmp_path: Path) -> None:
    """Pairs come from the first two columns of a TSV, from its columns by name, or from JSONL; half pairs are left out."""
    wanted = {Pair("one", "un"), Pair("two", "deux")}
    contents = {
        "plain.tsv": "one\tun\r\ntwo\tdeux\textra\r\n\r\nthree\t\r\n",
        "named.tsv": "id\ttarget\tsource\n1\tun\tone\n2\tdeux\ttwo\n",
        "lines.jsonl": "".join(
            json.dumps({"source": source, "target": target}) + "\n" for source, target in (("one", "un"), ("two", "deux"))
        ),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        corpus = read_pairs(section(tmp_path / name), seed=1)
        assert {*corpus.train, *corpus.valid} == wanted


def test_a_line_without_a_target(tmp_path: Path) -> None:
    """A line of a TSV that lacks a column is reported."""
    (tmp_path / "a.tsv").write_text("one\tun\ntwo\n", encoding="utf-8")
    with pytest.raises(DataInvalid) as caught:
        read_pairs(section(tmp_path), seed=1)
    assert (caught.value.line, caught.value.reason) == (2, "missing column")


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=40, unique=True), st.floats(0.01, 0.49), st.integers(0, 99))
def test_split(items: list[str], share: float, seed: int) -> None:
    """Every item is trained or held out, never both; both sides have one; the same seed splits the same way."""
    config = section(Path("x"), valid=share)
    corpus = split(items, len, config, seed)
    assert sorted([*corpus.train, *corpus.valid]) == sorted(items)
    assert corpus.train
    assert corpus.valid
    assert corpus == split(items, len, config, seed)


def test_a_duplicate_is_never_on_both_sides(tmp_path: Path) -> None:
    """Documents that occur twice are read once."""
    (tmp_path / "a.jsonl").write_text('{"text": "same"}\n{"text": "same"}\n{"text": "other"}\n', encoding="utf-8")
    corpus = read_documents(section(tmp_path), seed=1)
    assert sorted(corpus.train + corpus.valid) == ["other", "same"]
