"""Backup and restore. A backup is one SQLite file with the same tables, whichever database it came from.

So there is one format to check and to keep, and a backup of SQLite restored into PostgreSQL is the move from the one to the other.
These functions block; call them in a thread from async code.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy.exc import SQLAlchemyError

from storage import schema
from storage.config import StorageConfig
from storage.errors import BackupFailed, DatabaseBusy, StorageError
from storage.lockfile import FileLock, lock_path
from storage.sqlite import prepare_file
from storage.table_copy import fill_postgres, read_postgres
from storage.translate import translate
from storage.url import PostgresTarget, SqliteTarget, parse_url

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all (None = nobody knows)

_INSTRUCTIONS_PER_REPORT: Final = 50_000


def backup(config: StorageConfig, target: Path, progress: Progress = lambda _done, _total: None) -> None:
    """Write a consistent, checked copy of the database to `target`, which must not exist; writers go on meanwhile.

    Of a SQLite file only its owner may make one: call this in the process that holds the lock.
    Raises BackupFailed; then there is no file at `target`.
    """
    if target.exists():
        raise BackupFailed(f"{target} is already there; choose another name")
    with _becoming(target) as partial:
        source = parse_url(config.url)
        if isinstance(source, SqliteTarget):
            _vacuum_into(source.path, partial, progress)
        else:
            schema.make_ready(SqliteTarget(partial), config)
            read_postgres(source, partial, progress)
        check(partial)


def restore(config: StorageConfig, source: Path, progress: Progress = lambda _done, _total: None) -> None:
    """Replace everything in the database by the backup `source`, migrated to this program's schema.

    Takes the lock of a SQLite file. Raises BackupFailed when `source` is no good backup, DatabaseBusy when Kefu is running on the
    database, SchemaMismatch when the backup is newer than this program. In each case the database is as it was.
    """
    if not source.is_file():
        raise BackupFailed(f"{source} is not a file")
    check(source)
    target = parse_url(config.url)
    if isinstance(target, SqliteTarget):
        _replace_file(target.path, source, progress)
    else:
        _replace_rows(target, config, source, progress)


def check(path: Path) -> None:
    """Raise BackupFailed unless the file is a whole SQLite database of Kefu with nothing dangling."""
    try:
        with closing(_read_only(path)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            dangling = connection.execute("PRAGMA foreign_key_check").fetchone()
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} is not a backup of Kefu: {error}") from None
    if verdict != "ok":
        raise BackupFailed(f"{path} is damaged: {verdict}")
    if dangling is not None:
        raise BackupFailed(f"{path} is damaged: a row of {dangling[0]} refers to a row that is not there")


@contextmanager
def _becoming(target: Path) -> Iterator[Path]:
    """Give a partial file beside `target` that only its owner can read; when all went well it becomes `target`, durably."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        prepare_file(partial)
        yield partial
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        raise BackupFailed(f"{target} could not be written: {translate(error)}") from error
    finally:
        _remove(partial)


def _vacuum_into(path: Path, partial: Path, progress: Progress) -> None:
    """Copy one state of a live database, without its free pages."""
    total = path.stat().st_size
    with closing(_read_only(path)) as connection:

        def report() -> int:
            progress(min(partial.stat().st_size, total), total)
            return 0

        connection.set_progress_handler(report, _INSTRUCTIONS_PER_REPORT)
        connection.execute("VACUUM INTO ?", (str(partial),))
    progress(total, total)


def _replace_file(path: Path, source: Path, progress: Progress) -> None:
    try:
        prepare_file(path)
    except OSError as error:
        raise BackupFailed(f"{path} cannot be written: {error.strerror}") from None
    lock = FileLock(path, "kefu db restore")
    try:
        with _becoming(path) as partial:
            _vacuum_into(source, partial, progress)
            _migrate(partial)
            _forget_log(path)
    finally:
        lock.release()


def _replace_rows(target: PostgresTarget, config: StorageConfig, source: Path, progress: Progress) -> None:
    """Fill PostgreSQL from a migrated copy of the backup, in one transaction."""
    try:
        with tempfile.TemporaryDirectory(prefix="kefu-restore-") as folder:
            copy = Path(folder) / "backup.db"
            prepare_file(copy)
            _vacuum_into(source, copy, lambda _done, _total: None)
            _migrate(copy)
            schema.make_ready(target, config)
            fill_postgres(target, copy, progress)
    except (OSError, SQLAlchemyError) as error:
        meaning = translate(error)
        raise meaning if isinstance(meaning, StorageError) else BackupFailed(f"{source} could not be restored: {error}") from error


def _migrate(path: Path) -> None:
    schema.upgrade(StorageConfig(f"sqlite:///{path}"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing left beside it


def _forget_log(path: Path) -> None:
    """Bring the write-ahead log of the database that is replaced into its file, so that none lies beside the new one."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise
        busy = 0  # it is beyond saving, which is why it is replaced
    if busy:
        raise DatabaseBusy(f"another program is reading {path}; stop it and try again")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    for leftover in (partial, lock_path(partial), *(partial.with_name(partial.name + suffix) for suffix in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError, NotADirectoryError):
            leftover.unlink()
