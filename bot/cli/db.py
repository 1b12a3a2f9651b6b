"""`kefu db`: the schema's version, backup and restore."""

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.consent import ask_consent
from bot.cli.data import operate, refuse_beside_running
from bot.cli.output import note, print_json
from bot.cli.prepare import prepare
from bot.cli.progress import ByteProgress, waiting
from bot.settings import Settings
from storage import backup as backup_file
from storage import schema
from storage.errors import DatabaseBusy

app = typer.Typer(add_completion=False, no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.callback()
def group() -> None:
    """Upgrade, back up and restore the database."""


@app.command(epilog="Example: kefu db upgrade")
def upgrade(ctx: typer.Context, revision: Annotated[str, typer.Argument(help="Schema to reach.")] = "head") -> None:
    """Bring the database to the schema of this Kefu."""
    config = prepare(ctx).storage_config()
    _check_revision(revision, "head")
    before = schema.current(config)
    schema.upgrade(config, revision)
    after = schema.current(config)
    note(f"Already at schema {after}." if before == after else f"Upgraded from schema {before or 'none'} to {after}.")


@app.command(epilog="Example: kefu db downgrade 0001 --yes")
def downgrade(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help='Schema to go back to; "base" drops every table.')],
    *,
    yes: Yes = False,
) -> None:
    """Go back to an older schema; what it cannot hold is lost."""
    settings = prepare(ctx)
    config = settings.storage_config()
    _check_revision(revision, "base")
    _refuse_on_postgres(settings)
    ask_consent(f"Going back to schema {revision} deletes what that schema cannot hold.", yes=yes)
    before = schema.current(config)
    schema.downgrade(config, revision)
    note(f"Went back from schema {before or 'none'} to {schema.current(config) or 'none'}.")


@app.command(epilog="Example: kefu db current --json")
def current(ctx: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the schema of the database, and the one that this Kefu needs."""
    found, needed = _current(prepare(ctx)), schema.head()
    if json:
        print_json({"current": found, "head": needed})
    else:
        typer.echo(f"{found or 'none'} (this Kefu needs {needed})" if found != needed else f"{found}")


@app.command(epilog="Example: kefu db backup /backups/kefu-$(date +%F).db")
def backup(ctx: typer.Context, target: Annotated[Path, typer.Argument(help="File to write; must not exist yet.")]) -> None:
    """Write a checked copy of the database; Kefu may be running."""
    settings = prepare(ctx)
    with waiting(f"Backing up to {target}"):
        operate(settings, "db.backup", path=str(target.absolute()))
    typer.echo(str(target))


@app.command(epilog="Example: kefu db restore /backups/kefu-2026-11-23.db")
def restore(
    ctx: typer.Context, source: Annotated[Path, typer.Argument(help="A file that `kefu db backup` wrote.")], *, yes: Yes = False
) -> None:
    """Replace the database by a backup."""
    settings = prepare(ctx)
    _refuse_on_postgres(settings)
    ask_consent(f"Everything in the database is replaced by what {source} holds.", yes=yes)
    with ByteProgress(f"Restoring {source}") as progress:
        backup_file.restore(settings.storage_config(), source, progress.update)
    note(f"Restored {source}.")


def _refuse_on_postgres(settings: Settings) -> None:
    if settings.database_file is None:  # the lock of a SQLite file names its owner better
        refuse_beside_running(settings)


def _current(settings: Settings) -> str | None:
    try:
        return schema.current(settings.storage_config())
    except DatabaseBusy:
        return operate(settings, "status")["schema"]


def _check_revision(revision: str, also: str) -> None:
    known = (*schema.revisions(), also)
    if revision not in known:
        raise typer.BadParameter(f"there is no schema {revision!r}; there are {', '.join(known)}")
