"""`kefu bench storage`."""

import asyncio
import platform
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.output import note, print_json_line
from bot.cli.prepare import prepare
from dialogue.engine.bench.machine import hardware
from storage import schema
from storage.bench import run_bench
from storage.config import StorageConfig
from storage.testing import drop_postgres, postgres_config

app = typer.Typer(add_completion=False)

FULL_SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)


@app.command(epilog="Example: DATABASE_URL=postgresql://kefu@localhost/postgres kefu bench storage --folder /var/tmp")
def storage(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Option(help="Where the SQLite file is made; the disk is part of what is measured.")] = None,
    samples: Annotated[int, typer.Option(min=10, max=100_000, help="Single turns at each size.")] = 200,
    seed: Annotated[int, typer.Option(help="Chooses what is measured.")] = 1,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: under a minute.")] = False,
) -> None:
    """Measure whether the database stays fast as it fills.

    Works on databases of its own: a SQLite file, and one on the PostgreSQL server if DATABASE_URL names one; both are removed.
    The last line is one JSON object.
    """
    settings = prepare(ctx)
    with ExitStack() as stack:
        databases = {"sqlite": stack.enter_context(_sqlite(folder))}
        if settings.database_file is None:
            databases["postgresql"] = stack.enter_context(_postgres(settings.database_url))
        sizes = QUICK_SIZES if quick else FULL_SIZES
        results = asyncio.run(run_bench(databases, sizes, samples=samples, seed=seed, report=note))
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "sqlalchemy": version("sqlalchemy")}
    print_json_line(
        {"bench": "storage", "seed": seed, "samples": samples, "results": results, "versions": versions, "hardware": hardware()}
    )


@contextmanager
def _sqlite(folder: Path | None) -> Iterator[StorageConfig]:
    with tempfile.TemporaryDirectory(prefix="kefu-bench-", dir=folder) as place:
        config = StorageConfig(f"sqlite:///{Path(place).absolute() / 'bench.db'}")
        schema.upgrade(config)
        yield config


@contextmanager
def _postgres(server_url: str) -> Iterator[StorageConfig]:
    config = postgres_config(server_url, empty=True)
    try:
        schema.upgrade(config)
        yield config
    finally:
        drop_postgres(server_url, config)
