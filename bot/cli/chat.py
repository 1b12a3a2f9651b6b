"""`kefu chat`: the assistant in this terminal."""

import asyncio
import sys
from typing import Annotated

import typer

from bot.app import App, RunOptions
from bot.channels.terminal import Screen, TerminalChannel
from bot.channels.terminal_pipe import PipeScreen
from bot.channels.terminal_screen import InteractiveScreen
from bot.cli.application import make_app
from bot.cli.person import current_user, typed_lines
from bot.cli.prepare import prepare
from bot.settings import Settings

app = typer.Typer(add_completion=False)

PATIENCE_S = 2.0  # who leaves does not want to wait; an answer that is cut off is made next time


@app.command(epilog="Example: kefu chat --new")
def chat(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference.")] = None,
    *,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="Let the base model answer, whatever adapter is active.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin a new conversation instead of going on with the last one.")] = False,
) -> None:
    """Talk to the assistant in this terminal.

    Ctrl-C stops an answer; Ctrl-D, or Ctrl-C at the prompt, leaves. Piped in, each line is answered on stdout.
    """
    settings = prepare(ctx, {"model.reference": model, "model.use_adapters": False if no_adapter else None})
    application = make_app(settings)
    by_person = sys.stdin.isatty() and sys.stdout.isatty()
    screen = _screen(application, settings) if by_person else PipeScreen(sys.stdin.fileno(), sys.stdout, sys.stderr)
    channel = TerminalChannel(screen, user=current_user(), max_chars=settings.limits.message_chars, fresh=new)
    options = RunOptions(command="kefu chat", patience_s=PATIENCE_S, on_interrupt=channel.stop_answer if by_person else None)
    raise typer.Exit(asyncio.run(application.run([channel], options)))


def _screen(application: App, settings: Settings) -> Screen:
    greeting = (
        f"{settings.dialogue.assistant_name} answers with {settings.model.reference} and remembers what was said the next time.\n"
        "/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves."
    )
    return InteractiveScreen(typed_lines(settings), greeting=greeting, is_ready=application.ready.is_set)
