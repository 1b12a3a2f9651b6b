"""Which database is meant: parse the URL of the settings. Passwords never enter an error text."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import DatabaseUrlInvalid

_ALLOWED = "allowed are sqlite:///relative/path.db, sqlite:////absolute/path.db and postgresql://user:password@host/name"


@dataclass(frozen=True, slots=True)
class SqliteTarget:
    """A SQLite file."""

    path: Path  # absolute


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A PostgreSQL database."""

    url: URL  # with the driver that Kefu uses

    @property
    def label(self) -> str:
        """Host and name, for messages; no user, no password."""
        return f"{self.url.host or 'local socket'}/{self.url.database or ''}"


def parse_url(url: str) -> SqliteTarget | PostgresTarget:
    """Return what `url` names. Raises DatabaseUrlInvalid with a sentence that says what is allowed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise DatabaseUrlInvalid(f"the database URL has no scheme; {_ALLOWED}")
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in {"postgresql", "postgres"}:
        return _postgres(rest)
    raise DatabaseUrlInvalid(f"the database URL begins with {scheme!r}, which is not supported; {_ALLOWED}")


def _sqlite(rest: str) -> SqliteTarget:
    if rest in {"", "/", "/:memory:", ":memory:"} or "mode=memory" in rest:
        raise DatabaseUrlInvalid("a SQLite database in memory loses everything with the process; name a file, such as sqlite:///kefu.db")
    if not rest.startswith("/"):
        raise DatabaseUrlInvalid(f"sqlite:// needs three slashes before a path: sqlite:///{rest}")
    if "?" in rest:
        raise DatabaseUrlInvalid("a SQLite URL takes no options after '?': Kefu sets them itself")
    return SqliteTarget(Path(rest[1:]).expanduser().absolute())


def _postgres(rest: str) -> PostgresTarget:
    try:
        url = make_url(f"postgresql+psycopg://{rest}")
    except (ArgumentError, ValueError):
        raise DatabaseUrlInvalid(f"the PostgreSQL URL cannot be read; {_ALLOWED}") from None
    if not url.database:
        raise DatabaseUrlInvalid(f"the PostgreSQL URL names no database; {_ALLOWED}")
    return PostgresTarget(url)
