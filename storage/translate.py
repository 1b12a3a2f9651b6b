"""Driver errors become errors of this package here, and only here.

SQLite      BUSY, LOCKED                     → DatabaseBusy
            FULL, IOERR, CANTOPEN, CORRUPT … → DatabaseUnavailable
PostgreSQL  connection lost, shut down …     → DatabaseUnavailable
both        foreign key                      → NotFound: the row it refers to is not there
            anything else                    → StorageError
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from storage.errors import DatabaseBusy, DatabaseUnavailable, NotFound, StorageError

_RETRY = {"40001", "40P01"}  # serialization failure, deadlock: PostgreSQL asks for another try
_FOREIGN_KEY = "23503"
# Connection trouble, a unit that slept too long (25P03), resources, operator intervention, system errors.
_UNAVAILABLE = ("08", "25P03", "53", "57", "58", "XX")


def translate(error: BaseException) -> BaseException:
    """Return the error of this package that says what `error` means; what does not come from the driver is returned as it is."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("no connection to the database became free in time")
    if isinstance(error, DBAPIError):
        return _sqlite(error.orig) if isinstance(error.orig, sqlite3.Error) else _postgres(error)
    if isinstance(error, sqlite3.Error):
        return _sqlite(error)
    if isinstance(error, SQLAlchemyError):
        return StorageError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def translated() -> Iterator[None]:
    """Translate what is raised inside."""
    try:
        yield
    except Exception as error:
        meaning = translate(error)
        if meaning is error:
            raise
        raise meaning from error


def is_worth_a_retry(error: BaseException) -> bool:
    """Return whether PostgreSQL asks to run the transaction again."""
    return isinstance(error, DBAPIError) and _sqlstate(error) in _RETRY


def _sqlite(error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return DatabaseBusy("another program holds the SQLite file locked")
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return NotFound("a row that this one refers to does not exist")
    if isinstance(error, sqlite3.OperationalError | sqlite3.DatabaseError) and primary not in {
        None,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    }:
        return DatabaseUnavailable(f"SQLite: {error}")
    return StorageError(f"SQLite: {error}")


def _postgres(error: DBAPIError) -> StorageError:
    state = _sqlstate(error)
    if error.connection_invalidated or state is None or state.startswith(_UNAVAILABLE):
        return DatabaseUnavailable(f"PostgreSQL: {_first_line(error)}")
    if state in _RETRY:
        return DatabaseUnavailable("PostgreSQL broke off the transaction several times; try again")
    if state == _FOREIGN_KEY:
        return NotFound("a row that this one refers to does not exist")
    return StorageError(f"PostgreSQL: {_first_line(error)}")


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _first_line(error: DBAPIError) -> str:
    # The rest of a driver's message may quote rows.
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)
