"""How datasets are shown: tables on stdout, progress on stderr; text from files never moves the cursor."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from dialogue.normalise import escape_control
from finetune.dataset import Dropped
from finetune.manifest import DatasetManifest
from finetune.samples import Sample

_PIPED_WIDTH: Final = 10_000  # no cell is cut when a program reads the table


class RowProgress:
    """Shows which source is read and how many rows were: one line that changes on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._status = Console(stderr=True).status("Reading …")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, what: str, rows: int) -> None:
        """So many rows of this source, or of this step, are done."""
        if self._status is not None:
            self._status.update(Text(f"{escape_control(what)}: {rows} rows"))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table on stdout; cells are plain text, never markup."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(escape_control(str(cell))) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=_PIPED_WIDTH)).print(table)


def show_manifest(manifest: DatasetManifest, dropped: Iterable[Dropped]) -> None:
    """Write what a dataset holds, what became of every row, and where to look for what was dropped."""
    splits = tuple(manifest.splits)
    print_table(("source", "rows", "samples", "dropped", *splits, "weight", "licence"), _source_rows(manifest, splits))
    reasons = list(_reason_rows(manifest, _first_places(dropped)))
    if reasons:
        typer.echo("")
        print_table(("source", "what", "reason", "number", "first"), reasons)
    for reason, number in manifest.leaks.items():
        typer.echo(f"Leak between splits: {number} × {reason}.", err=True)


def _source_rows(manifest: DatasetManifest, splits: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for source in manifest.sources:
        kept = (source.kept.get(split, 0) for split in splits)
        yield (source.name, source.rows, source.samples, sum(source.dropped.values()), *kept, source.weight, source.licence)
    lines = (part.samples for part in manifest.splits.values())
    yield ("lines of the files", *("",) * 3, *lines, "", "")


def _reason_rows(manifest: DatasetManifest, first: Mapping[tuple[str, str], str]) -> Iterator[tuple[object, ...]]:
    for source in manifest.sources:
        for reason, number in source.dropped.items():
            yield source.name, "dropped", reason, number, first.get((source.name, reason), "")
        for reason, number in source.changed.items():
            yield source.name, "changed", reason, number, ""


def _first_places(dropped: Iterable[Dropped]) -> dict[tuple[str, str], str]:
    places: dict[tuple[str, str], str] = {}
    for one in dropped:
        places.setdefault((one.source, one.reason), f"{one.file}, line {one.line}" if one.line else one.file)
    return places


def print_turns(sample: Sample) -> None:
    """Write what is said in a sample, with its passages."""
    for number, passage in enumerate(sample.passages, start=1):
        print_words(f"[{number}] {passage.title}: {passage.text}")
    for turn in sample.turns:
        print_words(f"{turn.role}: {turn.content}")


def print_words(text: str) -> None:
    """Write text from outside on stdout, its control characters escaped, its line breaks kept."""
    typer.echo(escape_control(text, keep="\n\t"))
