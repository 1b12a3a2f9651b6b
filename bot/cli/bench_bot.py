"""`kefu bench bot`."""

import platform
import sqlite3
from importlib.metadata import version
from typing import Annotated, Any

import typer

from bot.channels.telegram.bench import FULL, OURS, QUICK, BotSize, library_arm, own_arm, run_bench
from bot.channels.telegram.bench_load import LoadSize, run_load
from bot.cli.output import note, print_json_line
from bot.cli.prepare import prepare
from bot.errors import CliError
from dialogue.engine.bench.machine import hardware

app = typer.Typer(add_completion=False)

PACKAGES = ("kefu", "python-telegram-bot", "httpx", "httpx2", "sqlalchemy", "aiosqlite")
COLUMNS = ("updates_per_s", "cpu_us_per_update", "first_p50_ms", "first_p99_ms", "final_p50_ms", "final_p99_ms")


@app.command(epilog="Examples: kefu bench bot --quick; kefu bench bot --load")
def bot(
    ctx: typer.Context,
    rounds: Annotated[int | None, typer.Option(min=1, max=100, help="How often each arm is measured.")] = None,
    messages: Annotated[int | None, typer.Option(min=50, max=100_000, help="Messages of a throughput run.")] = None,
    seed: Annotated[int, typer.Option(help="Chooses arrivals and chats.")] = 1,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Two short rounds, about a minute.")] = False,
    load: Annotated[
        bool, typer.Option("--load", help="5,000 open conversations and three times the capacity, instead of the arms.")
    ] = False,
) -> None:
    """Measure the whole way of a Telegram message beside python-telegram-bot.

    A fake Bot API server runs in a process of its own, the engine answers by rule. Kefu makes every step durable
    (SQLite, synchronous=FULL); the library keeps updates in memory. The last line is one JSON object.
    """
    prepare(ctx)
    try:
        results = _load(quick=quick, seed=seed) if load else _arms(_size(rounds, messages, quick=quick), seed)
    except RuntimeError as error:
        raise CliError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **{name: version(name) for name in PACKAGES}}
    print_json_line({"bench": "bot", "seed": seed, **results, "versions": versions, "hardware": hardware()})


def _size(rounds: int | None, messages: int | None, *, quick: bool) -> BotSize:
    size = QUICK if quick else FULL
    return BotSize(rounds or size.rounds, messages or size.messages, size.seconds)


def _arms(size: BotSize, seed: int) -> dict[str, Any]:
    arms = {
        OURS: own_arm(),
        "ptb, concurrent": library_arm("concurrent"),
        "ptb, default": library_arm("sequential"),
        "ptb, concurrent, plain send": library_arm("plain"),
    }
    results = run_bench(arms, size, seed, note)
    for line in _table(results):
        note(line)
    return {"rounds": size.rounds, "messages": size.messages, "arms": results}


def _table(results: dict[str, Any]) -> list[str]:
    lines = [f"{'median (least - most)':32}" + "".join(f"{name:>26}" for name in COLUMNS)]
    for arm, figures in results.items():
        cells = (figures[name] for name in COLUMNS)
        lines.append(f"{arm:32}" + "".join(f"{cell['median']:>10.1f} ({cell['min']:.1f} - {cell['max']:.1f})".rjust(26) for cell in cells))
    return lines


def _load(*, quick: bool, seed: int) -> dict[str, Any]:
    return run_load(LoadSize(conversations=500, seconds=10.0) if quick else LoadSize(), seed, note)
