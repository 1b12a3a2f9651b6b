"""`kefu doctor`."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from bot.cli import checks
from bot.cli.adapter_check import check_adapter
from bot.cli.ensure_model import ensure_model
from bot.cli.findings import Finding, as_json, as_lines, guarded, has_errors, ok
from bot.cli.output import print_json
from bot.cli.prepare import prepare_loaded
from bot.cli.progress import waiting
from bot.cli.telegram_check import check_telegram
from bot.redaction import Redactor
from bot.serving import open_model
from bot.settings import LoadedSettings, Settings

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: kefu doctor --deep --json")
def doctor(
    ctx: typer.Context,
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Start the engine too, which fetches a missing model, and ask Telegram whose the token is.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, database, model, adapter, engine, disk, clock and Telegram.

    Nothing is changed. The exit code is 1 when something is wrong; a warning leaves it at 0.
    """
    loaded = prepare_loaded(ctx)
    findings = examine(loaded, deep=deep)
    redact = Redactor(loaded.settings.secrets())
    if json:
        print_json(as_json(findings, redact))
    else:
        for line in as_lines(findings, redact):
            typer.echo(line)
    if has_errors(findings):
        raise typer.Exit(1)


def examine(loaded: LoadedSettings, *, deep: bool) -> Sequence[Finding]:
    """Run every check; one that fails does not keep the others from running."""
    settings = loaded.settings
    groups = [
        guarded("settings", lambda: checks.check_settings(loaded)),
        guarded("database", lambda: checks.check_database(settings)),
        guarded("delivery", lambda: checks.check_delivery(settings)),
        guarded("engine", lambda: start_engine(settings) if deep else checks.check_engine(settings)),
        guarded("model", lambda: checks.check_model(settings)),
        guarded("adapter", lambda: check_adapter(settings)),
        guarded("disk", lambda: checks.check_disk(settings)),
        guarded("clock", lambda: checks.check_clock(datetime.now().astimezone().year)),
        guarded("telegram", lambda: check_telegram(settings, deep=deep)),
    ]
    return [finding for group in groups for finding in group]


def start_engine(settings: Settings) -> Sequence[Finding]:
    """Start the engine, say what it serves, stop it again."""
    files = ensure_model(settings)

    async def try_out() -> Finding:
        model = await open_model(settings, files)
        begun = time.monotonic()
        try:
            info = (await model.start()).info
            seconds = time.monotonic() - begun
            return ok("engine", f"{info.engine} started in {seconds:.1f} s: {info.slots} slots of {info.context_tokens} tokens")
        finally:
            await model.engine.close()

    with waiting("Starting the engine"):
        return [asyncio.run(try_out())]
