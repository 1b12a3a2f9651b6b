"""Parquet files as rows, a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from finetune.errors import DataInvalid

_BATCH: Final = 1024  # rows that are in memory at once


def read_records(path: Path, name: str) -> Iterator[tuple[int, dict[str, Any]] | DataInvalid]:
    """Yield number and values of each record."""
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except (ArrowException, OSError) as error:
        yield DataInvalid(name, number + 1 if number else 0, "broken Parquet", str(error).splitlines()[0])
