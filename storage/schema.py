"""The schema's version: migrate up and down, and refuse what does not fit this program.

These functions block; call them in a thread from async code. `upgrade`, `downgrade` and `current` take the lock of a SQLite file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage.config import StorageConfig
from storage.errors import DatabaseUnavailable, SchemaMismatch
from storage.lockfile import FileLock
from storage.sqlite import prepare_file, sqlite_pragmas
from storage.translate import translate
from storage.url import PostgresTarget, SqliteTarget, parse_url

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_SCHEMA = text("SELECT pg_advisory_xact_lock(7236718202)")  # two processes must not migrate one database at a time
_PATIENCE = text("SET LOCAL lock_timeout = '10s'")  # a migration that waits for a lock makes everybody else wait behind it


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What `kefu doctor` tells about a database."""

    dialect: str  # "sqlite" or "postgresql"
    version: str  # of the SQLite library or the PostgreSQL server
    revision: str | None  # of the schema; None = no tables


def upgrade(config: StorageConfig, revision: str = "head") -> None:
    """Migrate up to `revision`. Raises DatabaseBusy, DatabaseUnavailable or SchemaMismatch (the database is newer than this program)."""
    with _locked(config) as target, _connected(target, config) as connection:
        _check_known(_revision(connection))
        command.upgrade(_alembic(connection), revision)


def downgrade(config: StorageConfig, revision: str) -> None:
    """Migrate down to `revision`, "base" for no tables at all. Raises as `upgrade`."""
    with _locked(config) as target, _connected(target, config) as connection:
        _check_known(_revision(connection))
        command.downgrade(_alembic(connection), revision)


def current(config: StorageConfig) -> str | None:
    """Return the revision of the database; None when it has no tables. Raises DatabaseBusy or DatabaseUnavailable."""
    with _locked(config) as target, _connected(target, config) as connection:
        return _revision(connection)


def look(config: StorageConfig) -> DatabaseFacts:
    """Return what stands behind the URL. Raises DatabaseBusy or DatabaseUnavailable."""
    with _locked(config) as target, _connected(target, config) as connection:
        version = connection.dialect.server_version_info or ()
        return DatabaseFacts(connection.dialect.name, ".".join(map(str, version)), _revision(connection))


def head() -> str:
    """Return the revision that this program works with."""
    newest = _scripts().get_current_head()
    if newest is None:
        raise SchemaMismatch("this installation of Kefu has no migrations; install it again")
    return newest


def revisions() -> tuple[str, ...]:
    """Return every schema that this program knows, oldest first."""
    return tuple(script.revision for script in reversed(list(_scripts().walk_revisions())))


def make_ready(target: SqliteTarget | PostgresTarget, config: StorageConfig) -> None:
    """Give an empty database its tables; raise SchemaMismatch for one of another version. The caller holds the SQLite lock."""
    with _connected(target, config) as connection:
        found = _revision(connection)
        if found is None and _is_empty(connection):
            command.upgrade(_alembic(connection), "head")
            return
    _check_known(found)
    if found != head():
        raise SchemaMismatch(f"the database has schema {found or 'none'}, this Kefu needs {head()}; run `kefu db upgrade`")


@contextmanager
def _locked(config: StorageConfig) -> Iterator[SqliteTarget | PostgresTarget]:
    target = parse_url(config.url)
    if isinstance(target, PostgresTarget):
        yield target
        return
    try:
        prepare_file(target.path)
    except OSError as error:
        raise DatabaseUnavailable(f"cannot open {target.path}: {error.strerror}") from None
    lock = FileLock(target.path, "kefu db")
    try:
        yield target
    finally:
        lock.release()


@contextmanager
def _connected(target: SqliteTarget | PostgresTarget, config: StorageConfig) -> Iterator[Connection]:
    """Give a connection in one transaction: a migration happens as a whole or not at all."""
    engine = _sqlite_engine(target, config) if isinstance(target, SqliteTarget) else _postgres_engine(target)
    try:
        with engine.begin() as connection:
            if isinstance(target, PostgresTarget):
                connection.execute(_LOCK_SCHEMA)
                connection.execute(_PATIENCE)
            yield connection
    except SQLAlchemyError as error:
        raise translate(error) from error
    finally:
        engine.dispose()


def _sqlite_engine(target: SqliteTarget, config: StorageConfig) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(target.path)), poolclass=NullPool)

    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would leave table definitions outside
        cursor = connection.cursor()
        for pragma in sqlite_pragmas(config):
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgres_engine(target: PostgresTarget) -> Engine:
    try:
        return create_engine(target.url, poolclass=NullPool)
    except ModuleNotFoundError:
        raise DatabaseUnavailable("PostgreSQL needs an extra: pip install 'kefu[postgres]'") from None


def _alembic(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_empty(connection: Connection) -> bool:
    return not [name for name in inspect(connection).get_table_names() if name != "alembic_version"]


def _check_known(revision: str | None) -> None:
    if revision is not None and revision not in revisions():
        raise SchemaMismatch(f"the database has schema {revision}, which is newer than this Kefu; install a newer Kefu")
