"""What commands write: results on stdout, everything else on stderr; text from outside never moves the cursor."""

import json
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dialogue.normalise import escape_control

_PIPED_WIDTH = 10_000  # no cell is cut when a program reads the table


def print_json(value: object) -> None:
    """Write one JSON document on stdout, for machines."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_json_line(value: object) -> None:
    """Write one JSON document on one line of stdout: the last line of a bench."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_text(text: str) -> None:
    """Write text from outside on stdout, its control characters escaped, its line breaks kept."""
    typer.echo(escape_control(text, keep="\n\t"))


def note(text: str) -> None:
    """Tell the operator something on stderr."""
    typer.echo(escape_control(text), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table on stdout; cells are plain text, never markup. Piped, it is as wide as it needs to be."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(escape_control(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(table)
