"""Files as rows: every format, and every way in which a file can be bad, with file, line and reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from finetune.errors import DataInvalid, RecipeInvalid
from finetune.sources import read
from finetune.sources.markdown import read_sections
from finetune.sources.read import read_rows, source_files
from finetune.sources.rows import Row
from tests.finetune.making import DATA, faq, section, write_lines

ROWS = [faq(1), faq(2), faq(3)]


def rows_of(path: Path, **more: object) -> list[Row]:
    """Return the rows of a file in which nothing is wrong."""
    rows = list(read_rows(path, section(path, **more)))
    assert all(isinstance(row, Row) for row in rows), rows
    return [row for row in rows if isinstance(row, Row)]


def problems_of(path: Path, **more: object) -> list[tuple[str, int, str]]:
    """Return file, line and reason of what is wrong in a file."""
    return [(row.file, row.line, row.reason) for row in read_rows(path, section(path, **more)) if isinstance(row, DataInvalid)]


def as_jsonl(path: Path) -> Path:
    return write_lines(path.with_suffix(".jsonl"), ROWS)


def as_json(path: Path) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps({"data": ROWS}))
    return path


def as_csv(path: Path) -> Path:
    path = path.with_suffix(".csv")
    lines = ["question;answer", *(f'"{row["question"]}";"{row["answer"]}"' for row in ROWS)]
    path.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())  # as an office program writes it
    return path


def as_tsv(path: Path) -> Path:
    path = path.with_suffix(".tsv")
    path.write_text("".join(f"{row['question']}\t{row['answer']}\n" for row in [{"question": "question", "answer": "answer"}, *ROWS]))
    return path


def as_parquet(path: Path) -> Path:
    path = path.with_suffix(".parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("write", [as_jsonl, as_json, as_csv, as_tsv, as_parquet])
def test_every_format_gives_the_same_rows(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """JSONL, JSON, CSV with semicolons and a byte order mark, TSV and Parquet are read alike."""
    assert [row.values for row in rows_of(write(tmp_path / "faq"))] == ROWS


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """A row knows its line, empty ones counted."""
    path = write_lines(tmp_path / "faq.jsonl", [ROWS[0], "", ROWS[1]])
    assert [row.line for row in rows_of(path)] == [1, 3]


def test_broken_json_in_line_817(tmp_path: Path) -> None:
    """The line that is broken is named, and all others are read."""
    lines: list[object] = [faq(number) for number in range(1000)]
    lines[816] = '{"question": "Why?", "answer": '
    path = write_lines(tmp_path / "faq.jsonl", lines)
    assert problems_of(path) == [("faq.jsonl", 817, "broken JSON")]
    assert sum(isinstance(row, Row) for row in read_rows(path, section(path))) == 999


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("a.jsonl", b"", 0, "empty file"),
        ("a.jsonl", b"\n\n", 0, "empty file"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', 2, "wrong encoding"),
        ("a.jsonl", b'{"a": 1}\n42\n', 2, "no JSON object"),
        ("a.jsonl", b'{"a": 1}\n' + b"[" * 100_000 + b"\n", 2, "broken JSON"),
        ("a.json", b'{\n"data": [{},\n}', 3, "broken JSON"),
        ("a.json", b'{\n"data": ["\xff"]}', 2, "wrong encoding"),
        ("a.json", b"[1]", 1, "no JSON object"),
        ("a.csv", b"a,b\n1,2\n3\n4,5\n", 3, "wrong number of columns"),
        ("a.csv", b"a,b\n1,2\n1,caf\xe9\n", 3, "wrong encoding"),
        ("a.csv", b'a,b\n1,"2"x\n3,4\n', 2, "broken table"),
        ("a.csv", b"a,b\n", 0, "empty file"),
        ("a.parquet", b"PAR1 or not", 0, "broken Parquet"),
        ("a.md", b"# Caf\xe9\n", 0, "wrong encoding"),
        ("a.md", b"---\ntitle: x\n---\n", 0, "empty file"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, name: str, content: bytes, line: int, reason: str) -> None:
    """File, line and reason of whatever is wrong with a file."""
    path = tmp_path / name
    path.write_bytes(content)
    assert problems_of(path) == [(name, line, reason)]


def test_what_is_too_long_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is not read into memory, and the next line is read."""
    monkeypatch.setattr(read, "MAX_LINE_CHARS", 200)
    path = write_lines(tmp_path / "a.jsonl", ["x" * 1001, {"a": 1}])
    assert problems_of(path) == [("a.jsonl", 1, "line too long")]
    assert [row.values for row in read_rows(path, section(path)) if isinstance(row, Row)] == [{"a": 1}]
    monkeypatch.setattr(read, "MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    assert problems_of(tmp_path / "a.json") == [("a.json", 0, "file too long")]


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    """What is wrong as UTF-8 is right as what it is; an encoding that nobody knows is a mistake of the recipe."""
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\nGrüße,退款\n".encode("utf-16"))
    assert problems_of(path)
    assert rows_of(path, encoding="utf-16")[0].values == {"a": "Grüße", "b": "退款"}
    with pytest.raises(RecipeInvalid, match="klingon"):
        list(read_rows(path, section(path, encoding="klingon")))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that went away is reported like any other bad file."""
    assert problems_of(tmp_path / "gone.jsonl") == [("gone.jsonl", 0, "unreadable file")]


def test_tables_without_a_header(tmp_path: Path) -> None:
    """Where a recipe names columns by number, the first line is a row; quotes mean nothing in TSV."""
    path = tmp_path / "a.tsv"
    path.write_text('"Hi" she said\tHallo\n')
    fields = {"source": "1", "target": "2", "direction": "=en>de"}
    assert rows_of(path, fields=fields)[0].values == {"1": '"Hi" she said', "2": "Hallo"}


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ([{"a": 1}], [{"a": 1}]),
        ({"conversations": [["Hi.", "Hello."]]}, [{"messages": ["Hi.", "Hello."]}]),
        ({"d1": [{"role": "user"}]}, [{"id": "d1", "messages": [{"role": "user"}]}]),
        ({"d1": {"turns": []}, "d2": {"turns": []}}, [{"id": "d1", "turns": []}, {"id": "d2", "turns": []}]),
    ],
)
def test_shapes_of_a_json_document(tmp_path: Path, document: object, rows: list[object]) -> None:
    """A list, a wrapped list, lists by id and objects by id are all rows."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert [row.values for row in rows_of(path)] == rows


def test_articles_become_sections() -> None:
    """A page of Markdown gives one row for each heading with words under it, with title, link and the line where it begins."""
    page = DATA / "login_gov_pages"
    files = source_files(section(page, map="articles"), "recipe.toml")
    assert [file.parent.name for file in files] == ["en", "es"]
    found = [row for file in files for row in read_rows(file, section(page, map="articles")) if isinstance(row, Row)]
    first = found[0].values
    assert (first["title"], first["heading"], first["level"]) == ("Verify my information", "Verify my information", 1)
    assert first["permalink"] == "/help/verify-your-identity/issues-verifying-my-personal-information/"
    lines = files[0].read_text(encoding="utf-8").splitlines()
    for row in found[1:]:
        if row.file.startswith("en/"):
            assert row.values["heading"] in lines[row.line - 1]
    assert len({row.key for row in found}) == len(found)


def test_a_hash_in_code_is_no_heading() -> None:
    """Only real headings divide a page: not lines in code, nor in a quotation; both ways to write a heading count."""
    page = "Before.\n\n```\n# no heading\n```\n\nTitle\n=====\n\nText.\n\n> # quoted\n\n## Empty\n\n## Last\n\nEnd."
    found = [(line, values["heading"], values["text"]) for line, values in read_sections(page, "help/page")]
    assert found == [
        (1, "Title", "Before.\n\n```\n# no heading\n```"),
        (7, "Title", "Text.\n\n> # quoted"),
        (16, "Last", "End."),
    ]


@given(st.text(max_size=300))
def test_any_text_is_a_page(text: str) -> None:
    """Whatever stands in a file, its sections are words of it, and lines lie inside."""
    for line, values in read_sections(text, "a/b"):
        assert 1 <= line <= text.count("\n") + 2
        assert values["text"]


def test_missing_sources_are_mistakes_of_the_recipe(tmp_path: Path) -> None:
    """A path that is not there, a folder without files and an ending that nobody knows are named."""
    with pytest.raises(RecipeInvalid, match=r"recipe.toml: source s: path: .*nowhere"):
        source_files(section(tmp_path / "nowhere"), "recipe.toml")
    with pytest.raises(RecipeInvalid, match="holds no file"):
        source_files(section(tmp_path), "recipe.toml")
    with pytest.raises(RecipeInvalid, match="path is needed"):
        source_files(section(tmp_path).model_copy(update={"path": None}), "recipe.toml")
    (tmp_path / "a.docx").write_bytes(b"PK")
    with pytest.raises(RecipeInvalid, match="no known ending"):
        list(read_rows(tmp_path / "a.docx", section(tmp_path / "a.docx")))
