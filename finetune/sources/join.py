"""Tables with one message a row: the rows of one conversation become one row with a list of messages."""

from collections.abc import Iterator
from typing import Any, Final

from finetune.config import SourceSection
from finetune.errors import DataInvalid
from finetune.sources.columns import Columns, as_text
from finetune.sources.rows import Row, Rows

FIELD: Final = "conversation"  # names the column that all rows of a conversation share; they follow one another


def joined(section: SourceSection, rows: Rows) -> Rows:
    """Yield rows as they are, or, where the recipe names the field `conversation`, one row for each conversation.

    A row that cannot be read comes as it is, and its conversation goes on without it.
    """
    if FIELD not in section.fields:
        yield from rows
        return
    begun: Row | None = None
    for row in rows:
        if isinstance(row, DataInvalid):
            yield row
            continue
        name = _conversation(section, row)
        if isinstance(name, DataInvalid):
            yield name
        elif begun is not None and begun.values["id"] == name:
            begun.values["messages"].append(row.values)
        else:
            yield from _closed(begun)
            begun = Row(row.file, row.line, _begun(section, row, name), row.key)
    yield from _closed(begun)


def _begun(section: SourceSection, row: Row, name: str) -> dict[str, Any]:
    """What the recipe says of the whole conversation, such as its group, stands in its first row."""
    whole = {column: row.values[column] for field in ("group", "language") if (column := section.fields.get(field, "")) in row.values}
    return {**whole, "id": name, "messages": [row.values]}


def _conversation(section: SourceSection, row: Row) -> str | DataInvalid:
    try:
        return as_text(Columns(section, row).need(FIELD))
    except DataInvalid as problem:
        return problem


def _closed(row: Row | None) -> Iterator[Row]:
    if row is not None:
        yield row
