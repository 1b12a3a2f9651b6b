"""`kefu ask`: one question, one answer."""

import asyncio
import sys
from typing import Annotated, Any

import typer

from bot.app import App, RunOptions
from bot.cli.application import make_app
from bot.cli.data import refuse_beside_running
from bot.cli.output import print_json, print_text
from bot.cli.prepare import prepare
from bot.control import ControlUnavailable, call
from bot.errors import CliError, ExitCode
from bot.settings import Settings

app = typer.Typer(add_completion=False)

PATIENCE_S = 2.0


@app.command(epilog="Example: kefu ask 'What is a decoder?' --json")
def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference; not beside `kefu run`.")] = None,
    *,
    no_adapter: Annotated[
        bool, typer.Option("--no-adapter", help="Let the base model answer, whatever adapter is active; not beside `kefu run`.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print answer, turn id, engine, adapter, tokens and timings as JSON.")] = False,
) -> None:
    """Ask one question, print the answer, exit.

    A Kefu that is running on the same database answers; otherwise the engine is started for this one question.
    """
    settings = prepare(ctx, {"model.reference": model, "model.use_adapters": False if no_adapter else None})
    text = sys.stdin.read(settings.limits.message_chars + 1) if question == "-" else question
    if not text.strip():
        raise CliError("There is no question.", hint="Give it as an argument, or on stdin with -.", code=ExitCode.USAGE)
    if len(text) > settings.limits.message_chars:
        limit = settings.limits.message_chars
        raise CliError(f"The question has more than {limit} characters.", hint="The limit is [limits] message_chars.", code=ExitCode.USAGE)
    if no_adapter:  # who is running answers with its own
        refuse_beside_running(settings)
    result = _ask_running(settings, text) or _ask_here(settings, text)
    if json:
        print_json(result)
    else:
        print_text(result["answer"])


def _ask_running(settings: Settings, text: str) -> dict[str, Any] | None:
    """Ask the Kefu that is running on this database; None = there is none."""
    try:
        return asyncio.run(call(settings.control_socket, "ask", max_bytes=settings.limits.control_bytes, text=text))
    except ControlUnavailable:
        return None


def _ask_here(settings: Settings, text: str) -> dict[str, Any]:
    results: list[dict[str, Any]] = []

    async def main(running: App) -> None:
        results.append((await running.ask(text)).as_json())

    code = asyncio.run(make_app(settings).run([], RunOptions(command="kefu ask", patience_s=PATIENCE_S, main=main)))
    if not results:
        raise typer.Exit(code or ExitCode.FAILURE)
    return results[0]
