"""One process owns a SQLite file. The lock lies beside it and says who holds it.

`flock` is given back by the kernel when the process dies, however it dies, so no lock is ever stale.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.errors import DatabaseBusy, DatabaseUnavailable


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who owns a SQLite file."""

    pid: int
    command: str  # for people: "kefu run"
    control_socket: str  # where it takes commands; the socket exists only while it listens


def lock_path(database: Path) -> Path:
    """Return where the lock of `database` lies."""
    return database.with_name(f"{database.name}.lock")


def control_socket_path(database: Path) -> Path:
    """Return where the owner of `database` listens for commands of other processes."""
    return database.with_name(f"{database.name}.sock")


def read_holder(database: Path) -> LockHolder | None:
    """Return who wrote the lock last; None when nobody did. It does not prove that they still hold it."""
    try:
        return LockHolder(**json.loads(lock_path(database).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class FileLock:
    """The right to write one SQLite file; held until `release` or the end of the process."""

    def __init__(self, database: Path, command: str) -> None:
        """Take the lock at once. Raises DatabaseBusy, which names pid and command, or DatabaseUnavailable."""
        self._database = database
        self._descriptor = _open(lock_path(database))
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise DatabaseBusy(_busy_sentence(database)) from None
        self._held = True
        self._write(LockHolder(os.getpid(), command, str(control_socket_path(database))))

    def release(self) -> None:
        """Give the file back. Safe to call twice."""
        if self._held:
            self._held = False
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)

    def _write(self, holder: LockHolder) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(asdict(holder)).encode(), 0)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot write {path}: {error.strerror}") from None


def _busy_sentence(database: Path) -> str:
    holder = read_holder(database)
    if holder is None:
        return f"another process is using {database}; stop it and try again"
    return f"{database} is in use by process {holder.pid} ({holder.command}); stop it and try again"
