"""A database URL is understood or refused with a sentence; a password never comes back."""

from pathlib import Path

import pytest

from storage.errors import DatabaseUrlInvalid
from storage.url import PostgresTarget, SqliteTarget, parse_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/kefu.db", Path("/var/lib/kefu.db")),
        ("sqlite:///kefu.db", Path.cwd() / "kefu.db"),
        ("sqlite:///~/kefu.db", Path.home() / "kefu.db"),
        ("sqlite:////tmp/100%25 & ü.db", Path("/tmp/100%25 & ü.db")),
    ],
)
def test_a_sqlite_path_is_taken_as_written(url: str, path: Path) -> None:
    """Three slashes for a relative path, four for an absolute one; nothing is decoded."""
    assert parse_url(url) == SqliteTarget(path)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_both_names_of_postgresql_are_taken(scheme: str) -> None:
    """The driver is ours to choose."""
    target = parse_url(f"{scheme}://kefu:secret@db.example:5433/shop")
    assert isinstance(target, PostgresTarget)
    assert (target.url.drivername, target.url.password, target.label) == ("postgresql+psycopg", "secret", "db.example/shop")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("kefu.db", "no scheme"),
        ("", "no scheme"),
        ("mysql://root:open-sesame@host/db", "'mysql'"),
        ("postgresql+asyncpg://kefu:open-sesame@host/db", "asyncpg"),
        ("sqlite://kefu.db", "three slashes"),
        ("sqlite://", "in memory"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///kefu.db?mode=memory", "in memory"),
        ("sqlite:///kefu.db?timeout=1", "no options"),
        ("postgresql://kefu:open-sesame@host", "names no database"),
        ("postgresql://kefu:open-sesame@host:port/db", "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(url: str, sentence: str) -> None:
    """The message says what is wrong and never holds the password."""
    with pytest.raises(DatabaseUrlInvalid, match=sentence) as caught:
        parse_url(url)
    assert "open-sesame" not in str(caught.value)
