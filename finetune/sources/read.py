"""Files as rows: JSONL, JSON, CSV and TSV; Parquet and Markdown have modules of their own.

Rows come one by one, each with its place, so that whatever is wrong with one can be said with file and line. A row that cannot be
read comes as the error itself and does not end the reading: the caller counts it, or stops.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from finetune.config import SourceSection
from finetune.errors import DataInvalid, RecipeInvalid
from finetune.sources.columns import LITERAL
from finetune.sources.markdown import read_sections
from finetune.sources.parquet import read_records
from finetune.sources.rows import Row, Rows

Record = tuple[int, dict[str, Any]]  # line and values
Records = Iterator[Record | DataInvalid]
Reader = Callable[[Path, str, SourceSection], Records]

MAX_LINE_CHARS: Final = 8 << 20  # of one row: a file without line ends is not read into memory
MAX_DOCUMENT_BYTES: Final = 1 << 30  # of one JSON document, which is
_WRAPPERS: Final = frozenset({"data", "rows", "conversations", "dialogues", "examples", "items"})  # {"data": [row, row]}
_ESCAPED_BYTE: Final = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that the encoding does not know
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def source_files(section: SourceSection, recipe: str) -> list[Path]:
    """Return the files of a source, in an order that is the same everywhere. Raises RecipeInvalid when there are none."""
    path = section.path
    if path is None:
        raise RecipeInvalid(f"{recipe}: source {section.name}: path: this mapping reads files, so a path is needed.")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RecipeInvalid(f"{recipe}: source {section.name}: path: {path} does not exist.")
    wanted = {ending for ending, form in ENDINGS.items() if section.format in {"auto", form}}
    files = sorted((file for file in path.rglob("*") if file.suffix.lower() in wanted and file.is_file()), key=Path.as_posix)
    if not files:
        raise RecipeInvalid(f"{recipe}: source {section.name}: path: {path} holds no file that can be read ({', '.join(sorted(wanted))}).")
    return files


def file_name(file: Path, section: SourceSection) -> str:
    """Return the name by which people and the manifest know a file of a source."""
    return file.name if file == section.path or section.path is None else file.relative_to(section.path).as_posix()


def read_rows(file: Path, section: SourceSection) -> Rows:
    """Yield the rows of one file of a source. Raises RecipeInvalid for an encoding or an ending that nobody knows."""
    name = file_name(file, section)
    alone = file == section.path
    read = _reader(file, section)
    count = 0
    try:
        if file.stat().st_size:
            for record in read(file, name, section):
                count += 1
                yield record if isinstance(record, DataInvalid) else _row(name, record, alone=alone)
    except OSError as error:
        yield DataInvalid(name, 0, "unreadable file", error.strerror or str(error))
    else:
        if not count:
            yield DataInvalid(name, 0, "empty file")


def _row(name: str, record: Record, *, alone: bool) -> Row:
    line, values = record
    return Row(name, line, values, str(line) if alone else f"{name}:{line}")


def _reader(file: Path, section: SourceSection) -> Reader:
    form = ENDINGS.get(file.suffix.lower()) if section.format == "auto" else section.format
    if form is None:
        raise RecipeInvalid(f"source {section.name}: format: {file.name} has no known ending; name the format.")
    return _READERS[form]


def _open(file: Path, section: SourceSection, *, newline: str | None = None) -> TextIO:
    """Open a text. Bytes that its encoding does not know come as surrogates, so that only their line is lost."""
    encoding = "utf-8-sig" if section.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else section.encoding
    try:
        return file.open(encoding=encoding, errors="surrogateescape", newline=newline)
    except LookupError:
        raise RecipeInvalid(f"source {section.name}: encoding: there is no encoding {section.encoding!r}.") from None


def _read_jsonl(file: Path, name: str, section: SourceSection) -> Records:
    with _open(file, section) as text:
        for line, content in enumerate(_lines(text), start=1):
            if len(content) > MAX_LINE_CHARS:
                yield DataInvalid(name, line, "line too long")
            elif content.strip():
                yield _parse_line(content, name, line)


def _lines(text: TextIO) -> Iterator[str]:
    """Yield the lines; of one that is too long, only so much that this can be seen."""
    while content := text.readline(MAX_LINE_CHARS + 1):
        yield content
        while len(content) > MAX_LINE_CHARS and not content.endswith("\n"):
            content = text.readline(MAX_LINE_CHARS + 1)


def _parse_line(content: str, name: str, line: int) -> Record | DataInvalid:
    if _ESCAPED_BYTE.search(content):
        return DataInvalid(name, line, "wrong encoding")
    try:
        return _record(line, json.loads(content), name)
    except (ValueError, RecursionError) as error:
        return DataInvalid(name, line, "broken JSON", _json_detail(error))


def _json_detail(error: Exception) -> str:
    return f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__


def _record(line: int, value: Any, name: str) -> Record | DataInvalid:
    """A list is a row too: the lines of one talk."""
    if isinstance(value, dict):
        return line, value
    if isinstance(value, list):
        return line, {"messages": value}
    return DataInvalid(name, line, "no JSON object")


def _read_json(file: Path, name: str, section: SourceSection) -> Records:
    if file.stat().st_size > MAX_DOCUMENT_BYTES:
        yield DataInvalid(name, 0, "file too long", "write one JSON object a line instead: .jsonl")
        return
    with _open(file, section) as text:
        content = text.read()
    if (wrong := _ESCAPED_BYTE.search(content)) is not None:
        yield DataInvalid(name, content.count("\n", 0, wrong.start()) + 1, "wrong encoding")
        return
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        yield DataInvalid(name, line, "broken JSON", _json_detail(error))
        return
    for number, value in enumerate(_document_rows(document), start=1):
        yield _record(number, value, name)


def _document_rows(document: Any) -> Iterable[Any]:
    """Return the rows of a list, of {"data": [row, …]}, of {id: [message, …], …} or of {id: row, …}."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return [document]
    for name, value in document.items():
        if name in _WRAPPERS and isinstance(value, list):
            return value
    return [_named_row(name, value) for name, value in document.items()]


def _named_row(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return {"id": name, "messages": value}
    return {"id": name, **value} if isinstance(value, dict) else value


def _read_csv(file: Path, name: str, section: SourceSection) -> Records:
    yield from _read_table(file, name, section, _delimiter(file, section), csv.QUOTE_MINIMAL)


def _read_tsv(file: Path, name: str, section: SourceSection) -> Records:
    yield from _read_table(file, name, section, "\t", csv.QUOTE_NONE)  # quotes mean nothing in text/tab-separated-values


def _delimiter(file: Path, section: SourceSection) -> str:
    """Some office programs write semicolons where the comma divides decimals."""
    with _open(file, section) as text:
        header = text.readline(MAX_LINE_CHARS)
    return ";" if header.count(";") > header.count(",") else ","


def _read_table(file: Path, name: str, section: SourceSection, delimiter: str, quoting: Any) -> Records:
    csv.field_size_limit(MAX_LINE_CHARS)
    named = [column for column in section.fields.values() if not column.startswith(LITERAL)]
    numbered = bool(named) and all(map(str.isdigit, named))  # a table without a header
    with _open(file, section, newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield DataInvalid(name, reader.line_num, "broken table", str(error))
                continue
            if header is None and not numbered:
                header = [cell.strip() for cell in cells]
            elif cells:
                yield _table_row(cells, header, name, reader.line_num)


def _table_row(cells: list[str], header: list[str] | None, name: str, line: int) -> Record | DataInvalid:
    if any(map(_ESCAPED_BYTE.search, cells)):
        return DataInvalid(name, line, "wrong encoding")
    columns = header or [str(number) for number in range(1, len(cells) + 1)]
    if len(cells) != len(columns):
        return DataInvalid(name, line, "wrong number of columns", f"{len(cells)} instead of {len(columns)}")
    return line, dict(zip(columns, cells, strict=True))


def _read_parquet(file: Path, name: str, _: SourceSection) -> Records:
    yield from read_records(file, name)


def _read_markdown(file: Path, name: str, section: SourceSection) -> Records:
    with _open(file, section) as text:
        content = text.read(MAX_LINE_CHARS)
    if _ESCAPED_BYTE.search(content):
        yield DataInvalid(name, 0, "wrong encoding")
        return
    yield from read_sections(content, name.removesuffix(file.suffix))


ENDINGS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".md": "markdown",
}
_READERS: Final[dict[str, Reader]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "markdown": _read_markdown,
}
