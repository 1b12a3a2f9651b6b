"""A row of a source, before anything is known of its meaning."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune.errors import DataInvalid


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file, or one stored dialogue."""

    file: str  # name below the source's path
    line: int  # 1 = the first; of a JSON document or a Parquet file, the number of the record
    values: dict[str, Any]
    key: str  # unique in the source, the same on every machine

    def problem(self, reason: str, detail: str = "") -> DataInvalid:
        """Return the error that says why this row cannot be used."""
        return DataInvalid(self.file, self.line, reason, detail)


Rows = Iterator[Row | DataInvalid]  # a row that cannot be read comes as its error, and the next one follows
