"""`kefu simulate`: a crowd chats with the owner's settings and model, without an account and without a network."""

import asyncio
import tempfile
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot.cli.ensure_model import ensure_model
from bot.cli.output import print_json_line, print_table, print_text
from bot.cli.prepare import prepare
from bot.cli.simulation_summary import summary_rows, verdict
from bot.cli.simulation_view import watch
from bot.errors import CliError, ExitCode
from bot.settings import DATABASE_NAME
from bot.simulation import Plan, simulate

app = typer.Typer(add_completion=False)


class Faults(StrEnum):
    NONE = "none"
    SOME = "some"
    BAD = "bad"


_EXAMPLES = """Examples:

kefu simulate

kefu simulate --engine scripted --people 50 --rate 20 --faults bad

kefu simulate --script questions.txt --minutes 10 --json > result.json"""


@app.command(name="simulate", epilog=_EXAMPLES)
def run_simulation(
    ctx: typer.Context,
    *,
    people: Annotated[int, typer.Option(min=1, max=10_000, help="How many people chat.")] = 8,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long they write; answers that are on their way then are waited for.")] = 1.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages of one person in a minute, as long as answers come in time.")] = 6.0,
    faults: Annotated[
        Faults, typer.Option(help="How bad Telegram is: lost responses, 429, 5xx, broken and slow connections.")
    ] = Faults.NONE,
    script: Annotated[
        Path | None, typer.Option(help="Lines to say, one message a line, instead of everything that people do.", dir_okay=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same people.")] = 0,
    engine: Annotated[str | None, typer.Option(help="Engine, instead of the setting engine.kind; `scripted` needs no model.")] = None,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of the setting model.reference.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the database of the simulation in this folder.", file_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Let a scripted crowd chat with your settings and model, without an account.

    A fake Telegram inside this program takes the place of the real one, and a new database that of yours: neither is touched.
    Ctrl-C ends it with the summary. The exit code is 1 when a message was lost or an answer shown twice, 130 after Ctrl-C.
    """
    settings = prepare(ctx, {"engine.kind": engine, "model.reference": model}, level="error")
    plan = Plan(people, minutes, rate, faults.value, _lines(script), seed)
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kefu-simulate-")))
        _make_new(folder)
        files = ensure_model(settings)
        report = asyncio.run(simulate(settings, files, plan, folder.absolute(), watch))
    if as_json:
        print_json_line(report.as_json())
    else:
        print_table(("what", "value"), summary_rows(report))
        print_text(verdict(report.outcome))
    raise typer.Exit(report.exit_code)


def _make_new(folder: Path) -> None:
    """Make sure that the folder is there and holds no database: it might be the real one. Raises CliError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / DATABASE_NAME).exists():
            raise CliError(f"There is a database in {folder} already.", hint="Name a new folder: --keep DIR.", code=ExitCode.USAGE)
    except OSError as error:
        raise CliError(f"{folder} cannot be used: {error.strerror}.", hint="Name another one: --keep DIR.", code=ExitCode.USAGE) from None


def _lines(script: Path | None) -> tuple[str, ...]:
    if script is None:
        return ()
    try:
        lines = tuple(line.strip() for line in script.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError as error:
        raise CliError(f"{script} cannot be read: {error.strerror}.", code=ExitCode.USAGE) from None
    except UnicodeDecodeError:
        raise CliError(f"{script} is no text in UTF-8.", code=ExitCode.USAGE) from None
    if not lines:
        raise CliError(f"{script} holds no line to say.", hint="Write one message a line.", code=ExitCode.USAGE)
    return lines
