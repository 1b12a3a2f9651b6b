"""All rows from PostgreSQL into a SQLite file and back, table by table, through the same table definitions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, func, insert, select, text
from sqlalchemy.pool import NullPool

from storage.errors import DatabaseBusy
from storage.models import conversations, metadata
from storage.url import PostgresTarget

_ROWS_AT_ONCE: Final = 1000


def read_postgres(source: PostgresTarget, target: Path, progress: Callable[[int, int | None], None]) -> None:
    """Copy one state of the server into the empty tables of the SQLite file. Raises SQLAlchemyError."""
    server, file = _postgres(source), _sqlite(target)
    try:
        with server.connect() as reading, file.begin() as writing:
            snapshot = reading.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            for table in metadata.sorted_tables:
                _copy_rows(snapshot, writing, table)
                progress(target.stat().st_size, None)
        with file.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    finally:
        server.dispose()
        file.dispose()


def fill_postgres(target: PostgresTarget, source: Path, progress: Callable[[int, int | None], None]) -> None:
    """Replace the rows of the server by those of the SQLite file, in one transaction.

    Raises DatabaseBusy when a worker has a conversation there, and SQLAlchemyError.
    """
    server, file = _postgres(target), _sqlite(source)
    try:
        with file.connect() as reading, server.begin() as writing:
            names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
            writing.execute(text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
            _refuse_if_in_use(writing)
            writing.execute(text(f"TRUNCATE {names}"))
            for number, table in enumerate(metadata.sorted_tables, start=1):
                _copy_rows(reading, writing, table)
                _carry_on_numbering(writing, table)
                progress(source.stat().st_size * number // len(metadata.sorted_tables), source.stat().st_size)
    finally:
        server.dispose()
        file.dispose()


def _copy_rows(reading: Connection, writing: Connection, table: Table) -> None:
    rows = reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table)).mappings()
    for part in rows.partitions():
        values: list[dict[str, Any]] = [{column.name: row[column] for column in table.columns} for row in part]
        writing.execute(insert(table), values)


def _refuse_if_in_use(writing: Connection) -> None:
    now = func.extract("epoch", func.clock_timestamp()) * 1000
    leased = writing.execute(select(func.count()).select_from(conversations).where(conversations.c.lease_until > now)).scalar_one()
    if leased:
        raise DatabaseBusy(f"Kefu is working on {leased} conversations in this database; stop it and try again")


def _carry_on_numbering(writing: Connection, table: Table) -> None:
    """Let the server number new rows after the copied ones."""
    column = table.autoincrement_column
    if column is not None:
        highest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        writing.execute(select(func.setval(sequence, highest + 1, False)))


def _postgres(target: PostgresTarget) -> Engine:
    return create_engine(target.url, poolclass=NullPool)


def _sqlite(path: Path) -> Engine:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)
