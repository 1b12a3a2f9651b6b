"""Migrations run up and down with data in the tables, and the program refuses a schema that it does not know."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

import storage.migrations
from storage import schema
from storage.config import StorageConfig
from storage.database import open_database
from storage.errors import DatabaseBusy, SchemaMismatch
from storage.models import metadata
from storage.testing import drop_postgres, postgres_config
from storage.url import SqliteTarget, parse_url
from tests.contracts.test_storage_people import canaries, everything


def run_sql(config: StorageConfig, statement: str) -> list[Any]:
    """Run a statement beside the program."""
    target = parse_url(config.url)
    url = f"sqlite:///{target.path}" if isinstance(target, SqliteTarget) else target.url
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return list(result.all()) if result.returns_rows else []
    finally:
        engine.dispose()


def tables(config: StorageConfig) -> set[str]:
    """Return the names of the tables."""
    target = parse_url(config.url)
    engine = create_engine(f"sqlite:///{target.path}" if isinstance(target, SqliteTarget) else target.url, poolclass=NullPool)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


async def fill(config: StorageConfig) -> str:
    """Put rows into every table that users fill; return them as text."""
    database = await open_database(config)
    try:
        await canaries(database)
        return await everything(database)
    finally:
        await database.close()


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory(str(Path(storage.migrations.__file__).parent)).walk_revisions()][::-1]


def test_every_step_runs_up_and_down_with_data(storage_config: StorageConfig) -> None:
    """From the newest schema down to nothing and up again, each step with rows in the tables."""
    asyncio.run(fill(storage_config))
    for revision in [*revisions()[-2::-1], "base"]:
        schema.downgrade(storage_config, revision)
        assert schema.current(storage_config) == (None if revision == "base" else revision)
    assert tables(storage_config) <= {"alembic_version"}
    for revision in revisions():
        schema.upgrade(storage_config, revision)
        assert schema.current(storage_config) == revision
    assert "ann-private" in asyncio.run(fill(storage_config))


def test_an_upgrade_at_the_newest_schema_changes_nothing(storage_config: StorageConfig) -> None:
    """Upgrading twice keeps every row."""
    before = asyncio.run(fill(storage_config))
    schema.upgrade(storage_config)

    async def after() -> str:
        database = await open_database(storage_config)
        try:
            return await everything(database)
        finally:
            await database.close()

    assert asyncio.run(after()) == before


def test_migrations_make_the_tables_of_the_models(storage_config: StorageConfig) -> None:
    """The migrated schema and the models of the program are the same."""
    target = parse_url(storage_config.url)
    engine = create_engine(f"sqlite:///{target.path}" if isinstance(target, SqliteTarget) else target.url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    finally:
        engine.dispose()


def test_a_newer_schema_is_refused(storage_config: StorageConfig) -> None:
    """A database that a newer Kefu migrated is left alone, by opening, upgrading and downgrading."""
    run_sql(storage_config, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="newer than this Kefu"):
        asyncio.run(_open_and_close(storage_config))
    with pytest.raises(SchemaMismatch, match="newer than this Kefu"):
        schema.upgrade(storage_config)
    with pytest.raises(SchemaMismatch, match="newer than this Kefu"):
        schema.downgrade(storage_config, "base")


def test_an_older_schema_asks_for_the_upgrade(storage_config: StorageConfig) -> None:
    """A database with tables but an older schema is not migrated behind the owner's back."""
    run_sql(storage_config, "DELETE FROM alembic_version")
    with pytest.raises(SchemaMismatch, match="kefu db upgrade"):
        asyncio.run(_open_and_close(storage_config))


async def _open_and_close(config: StorageConfig) -> None:
    await (await open_database(config)).close()


def test_a_failing_migration_leaves_everything_as_it_was(storage_config: StorageConfig) -> None:
    """A step that breaks half-way is undone as a whole."""
    schema.downgrade(storage_config, "base")
    run_sql(storage_config, "CREATE TABLE turns (unexpected INTEGER)")
    with pytest.raises(Exception, match="turns"):
        schema.upgrade(storage_config)
    assert tables(storage_config) - {"alembic_version"} == {"turns"}


def test_a_sqlite_file_is_migrated_only_by_its_owner(tmp_path: Path) -> None:
    """While a process has the file, `kefu db` commands say who it is."""

    async def both() -> None:
        config = StorageConfig(f"sqlite:///{tmp_path}/kefu.db")
        database = await open_database(config, owner="kefu run")
        try:
            for command in (schema.upgrade, schema.current):
                with pytest.raises(DatabaseBusy, match="kefu run"):
                    await asyncio.to_thread(command, config)
            with pytest.raises(DatabaseBusy, match="kefu run"):
                await asyncio.to_thread(schema.downgrade, config, "base")
        finally:
            await database.close()

    asyncio.run(both())


def test_an_empty_postgres_gets_its_tables_once(postgres_url: str) -> None:
    """Several processes that open a new database at once leave one whole schema."""
    config = postgres_config(postgres_url, empty=True)

    async def open_at_once() -> None:
        await asyncio.gather(*(_open_and_close(config) for _ in range(4)))

    try:
        asyncio.run(open_at_once())
        assert schema.current(config) == schema.head()
    finally:
        drop_postgres(postgres_url, config)
