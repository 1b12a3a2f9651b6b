"""`kefu run`: the server."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import structlog
import typer

from bot.app import RunOptions
from bot.channels.base import Channel
from bot.channels.registry import channel_names, load_channel
from bot.cli.application import make_app
from bot.cli.prepare import prepare
from bot.settings import Settings

app = typer.Typer(add_completion=False)

NOT_SERVED = frozenset({"terminal"})  # belongs to the person who runs `kefu chat`

log = structlog.get_logger(__name__)


@app.command(epilog="Example: TELEGRAM_BOT_TOKEN_FILE=/run/secrets/token kefu run --log-json")
def run(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address of /healthz, /readyz and /metrics, instead of http.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Their port, instead of http.port; 0 = any free one.")] = None,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference.")] = None,
    *,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="Let the base model answer, whatever adapter is active.")] = False,
) -> None:
    """Serve every configured channel until stopped.

    Telegram is one when TELEGRAM_BOT_TOKEN is set; `kefu doctor --deep` says whose it is.

    SIGTERM or Ctrl-C lets running answers finish; a second one does not.
    """
    settings = prepare(
        ctx,
        {"http.host": host, "http.port": port, "model.reference": model, "model.use_adapters": False if no_adapter else None},
        level="info",
    )
    channels = configured_channels(settings)
    if not channels:
        log.warning("run.no_channel", remedy="for Telegram, set TELEGRAM_BOT_TOKEN; until then only `kefu ask` and the health pages work")
    application = make_app(settings)
    options = RunOptions(command="kefu run", http=True, patience_s=settings.limits.stop_timeout_s)
    raise typer.Exit(asyncio.run(application.run(channels, options)))


def configured_channels(settings: Settings) -> Sequence[Channel]:
    """Return the installed channels that the settings turn on: each factory takes the settings and returns None when it is off."""
    made = [load_channel(name)(settings) for name in channel_names() if name not in NOT_SERVED]
    return [channel for channel in made if channel is not None]
