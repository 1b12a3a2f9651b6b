"""`kefu finetune scrub`: a text without personal data, and how well such data is found."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import typer

from finetune.errors import DataInvalid
from finetune.lazy import load

EPILOG = "Example: kefu finetune scrub letters.txt > clean.txt; or: kefu finetune scrub --measure marked.jsonl"
_PARTS: Final = re.compile(r"(\n\s*\n)")


def scrub(
    file: Annotated[Path, typer.Argument(help="A text, in UTF-8. With --measure: texts with marked spans, as presidio-research has them.")],
    *,
    measure: Annotated[bool, typer.Option("--measure", help="Print recall and precision of each kind instead.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --measure: print the table as one line of JSON, the last on stdout.")
    ] = False,
) -> None:
    """Replace e-mail addresses, phone numbers, names and the like by placeholders such as [EMAIL].

    The text goes to stdout, what was replaced to stderr.
    """
    if measure:
        _measure(file, as_json=as_json)
        return
    scrubber = load("finetune.cleaning.scrub").Scrubber()
    counts: Counter[str] = Counter()
    for part in _PARTS.split(_read(file)):  # an address goes over lines, but not over empty ones
        clean, found = scrubber.scrub(part)
        counts.update(found)
        typer.echo(clean, nl=False)
    typer.echo(", ".join(f"{kind}: {count}" for kind, count in counts.most_common()) or "Nothing was found.", err=True)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataInvalid(str(file), 0, "cannot be read", error.strerror or "") from None
    except UnicodeDecodeError as error:
        raise DataInvalid(str(file), 0, "is no UTF-8", error.reason) from None


def _measure(file: Path, *, as_json: bool) -> None:
    room, scrubber = load("finetune.cleaning.measure"), load("finetune.cleaning.scrub").Scrubber()
    scores = room.measure(room.parse_marked(_read(file), str(file)), scrubber)
    columns = ("kind", "marked", "found", "recall", "precision", "hidden", "recall_exact", "precision_exact")
    rows = [{"kind": score.kind, "marked": score.marked, "found": score.found, **score.shares()} for score in scores]
    load("finetune.commands.tables").print_table(columns, [["–" if row[name] is None else row[name] for name in columns] for row in rows])
    if as_json:
        typer.echo(json.dumps({"file": file.name, "kinds": rows}))
