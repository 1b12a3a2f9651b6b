"""Corpora: files ─► documents or pairs ─► what is trained and what is held out.

Duplicates are dropped before the split, so that nothing held out was trained word for word.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from finetune.errors import DataInvalid, RecipeInvalid
from finetune.pretraining.config import CorpusSection

Item = TypeVar("Item")

_WHOLE_FILES: Final = frozenset({".txt", ".md"})


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and what it becomes."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Corpus(Generic[Item]):
    """Texts, split."""

    train: tuple[Item, ...]
    valid: tuple[Item, ...]


def read_documents(section: CorpusSection, seed: int) -> Corpus[str]:
    """Return the documents of a text corpus. Raises RecipeInvalid when there are none, DataInvalid for a broken file."""
    documents = list(dict.fromkeys(text for path in _files(section, _WHOLE_FILES | {".jsonl"}) for text in _documents(path, section)))
    if len(documents) == 1:
        beginning, tail = _cut_tail(documents[0], section.valid)
        if not (beginning and tail):
            raise _too_little(section)
        return Corpus((beginning,), (tail,))
    return split(documents, len, section, seed)


def read_pairs(section: CorpusSection, seed: int) -> Corpus[Pair]:
    """Return the pairs of a parallel corpus. Raises RecipeInvalid when there are none, DataInvalid for a broken file."""
    pairs = list(dict.fromkeys(pair for path in _files(section, {".tsv", ".jsonl"}) for pair in _pairs(path, section)))
    return split(pairs, lambda pair: len(pair.source) + len(pair.target), section, seed)


def _files(section: CorpusSection, endings: frozenset[str] | set[str]) -> list[Path]:
    if section.path.is_file() and section.path.suffix in endings:
        return [section.path]
    if not section.path.exists():
        raise RecipeInvalid(f"corpus.path: there is nothing at {section.path}.")
    found = sorted(path for path in section.path.rglob("*") if path.suffix in endings and path.is_file())
    if not found:
        raise RecipeInvalid(f"corpus.path: {section.path} holds no file that ends in {', '.join(sorted(endings))}.")
    return found


def _documents(path: Path, section: CorpusSection) -> Iterator[str]:
    if path.suffix in _WHOLE_FILES:
        texts = [_read(path)]
    else:
        texts = [_field(row, section.text_field, path, number) for number, row in _json_lines(path)]
    yield from (text.strip() for text in texts if text.strip())


def _pairs(path: Path, section: CorpusSection) -> Iterator[Pair]:
    rows = _tab_lines(path, section) if path.suffix == ".tsv" else _json_pairs(path, section)
    yield from (pair for pair in rows if pair.source and pair.target)


def _json_pairs(path: Path, section: CorpusSection) -> Iterator[Pair]:
    for number, row in _json_lines(path):
        source, target = (_field(row, name, path, number) for name in (section.source_field, section.target_field))
        yield Pair(source.strip(), target.strip())


def _tab_lines(path: Path, section: CorpusSection) -> Iterator[Pair]:
    """Yield the pairs of a TSV whose first line names its columns, or whose first two columns are source and target."""
    lines = _read(path).split("\n")
    names = lines[0].rstrip("\r").split("\t")
    is_header = {section.source_field, section.target_field} <= set(names)
    first, second = (names.index(section.source_field), names.index(section.target_field)) if is_header else (0, 1)
    for number, line in enumerate(lines[is_header:], start=1 + is_header):
        cells = line.rstrip("\r").split("\t")
        if line.strip() and len(cells) <= max(first, second):
            raise DataInvalid(str(path), number, "missing column")
        if line.strip():
            yield Pair(cells[first].strip(), cells[second].strip())


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataInvalid(str(path), number, "broken JSON", str(error)) from None
        if not isinstance(row, dict):
            raise DataInvalid(str(path), number, "no JSON object")
        yield number, row


def _field(row: dict[str, Any], name: str, path: Path, number: int) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataInvalid(str(path), number, "missing field", name)
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataInvalid(str(path), line, "wrong encoding", "not UTF-8") from None
    except OSError as error:
        raise DataInvalid(str(path), 0, "unreadable", error.strerror or "") from None


def split(items: list[Item], size: Callable[[Item], int], section: CorpusSection, seed: int) -> Corpus[Item]:
    """Hold out items, chosen by the seed, until they have the share of characters that the recipe asks for."""
    if len(items) < 2:
        raise _too_little(section)
    wanted = section.valid * sum(map(size, items))
    order = random.Random(seed).sample(range(len(items)), len(items))  # noqa: S311 - a split, not a secret
    held: set[int] = set()
    for index in order[:-1]:
        if sum(size(items[kept]) for kept in held) >= wanted:
            break
        held.add(index)
    return Corpus(_pick(items, held, inside=False), _pick(items, held, inside=True))


def _pick(items: Sequence[Item], held: set[int], *, inside: bool) -> tuple[Item, ...]:
    return tuple(item for index, item in enumerate(items) if (index in held) == inside)


def _cut_tail(document: str, share: float) -> tuple[str, str]:
    """Return the beginning of a single document and its last lines, which are held out."""
    lines = document.splitlines(keepends=True)
    kept, length = 0, 0
    while kept < len(lines) - 1 and length + len(lines[kept]) <= (1 - share) * len(document):
        length += len(lines[kept])
        kept += 1
    return "".join(lines[:kept]).strip(), "".join(lines[kept:]).strip()


def _too_little(section: CorpusSection) -> RecipeInvalid:
    return RecipeInvalid(f"corpus.path: {section.path} holds too little text: at least two documents, pairs or lines are needed.")
