"""Databases that live as long as a test. They are the real thing, not imitations: migrated once, then copied.

async with temporary_database() as database: ...
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Executable, create_engine, delete, make_url, text
from sqlalchemy.pool import NullPool

from storage import schema
from storage.clock import Clock
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.ids import new_id
from storage.models import metadata

_TEMPLATE = "kefu_template"


@asynccontextmanager
async def temporary_database(clock: Clock | None = None, **settings: Any) -> AsyncIterator[Database]:
    """Give an open, empty SQLite database. `settings` are fields of StorageConfig other than the URL."""
    with tempfile.TemporaryDirectory(prefix="kefu-") as folder:
        database = await open_database(sqlite_config(Path(folder), **settings), clock=clock, owner="test")
        try:
            yield database
        finally:
            await database.close()


def sqlite_config(folder: Path, **settings: Any) -> StorageConfig:
    """Put an empty migrated SQLite file into `folder` and return the settings that open it."""
    path = folder / "kefu.db"
    path.write_bytes(_migrated_file())
    path.chmod(0o600)
    return StorageConfig(f"sqlite:///{path}", **settings)


@asynccontextmanager
async def temporary_postgres(server_url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Database]:
    """Give an open, empty database on the server of `server_url`, whose user must be allowed to create databases.

    Databases are emptied and used again, which is much faster than making them; they stay on the server.
    """
    free = _free_databases(server_url)
    url = free.pop() if free else postgres_config(server_url).url
    try:
        database = await open_database(StorageConfig(url, **settings), clock=clock, owner="test")
        try:
            yield database
        finally:
            await database.close()
    finally:
        _on_server(url, *(delete(table) for table in reversed(metadata.sorted_tables)))
        free.append(url)


def postgres_config(server_url: str, *, empty: bool = False, **settings: Any) -> StorageConfig:
    """Make a database on the server, migrated unless `empty`, and return the settings that open it. `drop_postgres` removes it."""
    name = f"kefu_{new_id()}"
    template = "template1" if empty else _migrated_template(server_url)
    _on_server(server_url, text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    return StorageConfig(_with_database(server_url, name), **settings)


def drop_postgres(server_url: str, config: StorageConfig) -> None:
    """Remove a database that `postgres_config` made."""
    _on_server(server_url, text(f'DROP DATABASE IF EXISTS "{make_url(config.url).database}" WITH (FORCE)'))


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="kefu-") as folder:
        path = Path(folder) / "template.db"
        schema.upgrade(StorageConfig(f"sqlite:///{path}"))
        return path.read_bytes()


@cache
def _free_databases(server_url: str) -> list[str]:  # noqa: ARG001 - one list for each server
    return []


@cache
def _migrated_template(server_url: str) -> str:
    name = f"{_TEMPLATE}_{new_id()}"
    _on_server(server_url, text(f'CREATE DATABASE "{name}"'))
    schema.upgrade(StorageConfig(_with_database(server_url, name)))
    return name


def _with_database(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def _on_server(server_url: str, *statements: Executable) -> None:
    url = make_url(server_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(statement)
    finally:
        engine.dispose()
