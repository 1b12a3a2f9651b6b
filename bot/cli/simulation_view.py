"""What a simulation looks like: a table on stderr that lives as long as it runs, or a line now and then where nobody sees tables."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bot.channels.telegram.fake_crowd import Person
from bot.cli.output import note
from bot.simulation import Report, Scene, quantiles_ms

REFRESH_S: Final = 0.5
LINE_S: Final = 5.0
MOST_PEOPLE: Final = 24  # that a table shows; the totals are about everybody

_STYLES: Final[Mapping[str, str]] = {"waits": "yellow", "reads": "cyan", "presses": "magenta", "left": "dim"}

Sleep = Callable[[float], Awaitable[None]]


async def watch(scene: Scene, *, sleep: Sleep = asyncio.sleep) -> None:
    """Show the scene on stderr until cancelled."""
    console = Console(stderr=True)
    if not console.is_terminal:
        while True:
            await sleep(LINE_S)
            note(line(scene))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(render(scene), refresh=True)
            await sleep(REFRESH_S)


def line(scene: Scene) -> str:
    """Return the totals in one line."""
    if scene.ready_at is None:
        return "the engine starts …"
    return f"{scene.elapsed_s:.0f} s: " + ", ".join(f"{name} {value}" for name, value in totals(scene).items())


def render(scene: Scene) -> RenderableType:
    """Return the whole picture."""
    heading = "the engine starts …" if scene.ready_at is None else f"{scene.elapsed_s:.0f} s of {scene.plan.minutes * 60:.0f} s"
    if scene.ready_at is not None and scene.elapsed_s > scene.plan.minutes * 60:
        heading = f"{scene.elapsed_s:.0f} s; the last answers are on their way"
    people = Table("person", "does", "state", box=None, pad_edge=False, header_style="bold")
    for name in ("sent", "answered", "last answer"):
        people.add_column(name, justify="right")
    for person in scene.crowd.people[:MOST_PEOPLE]:
        people.add_row(*_cells(scene, person))
    hidden = len(scene.crowd.people) - MOST_PEOPLE
    more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
    summary = Text("  ".join(f"{name} {value}" for name, value in totals(scene).items()))
    return Group(Text(heading, style="bold"), people, *more, Text(), summary)


def _cells(scene: Scene, person: Person) -> list[RenderableType]:
    waited = f" {scene.telegram.state.now() - person.waits_since:.0f} s" if person.waits_since is not None else ""
    figures = person.figures
    last = f"{figures.answers_s[-1]:.1f} s" if figures.answers_s else ""
    state = Text(f"{person.state}{waited}", style=_STYLES.get(person.state, ""))
    return [person.name, person.doing, state, str(figures.sent), str(figures.answered), last]


def totals(scene: Scene) -> dict[str, str]:
    """Return the totals, ready to be read."""
    figures = scene.figures
    return {
        "messages": str(figures.sent),
        "messages/s": f"{figures.sent / scene.elapsed_s:.1f}" if scene.elapsed_s else "0",
        "waiting": str(scene.waiting),
        "first reaction": _spread(figures.reactions_s),
        "answer": _spread(figures.answers_s),
        "faults": str(sum(scene.injected.values())),
        "429": str(scene.refused),
        "violations": str(len(scene.telegram.violations())),
    }


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """Return the final table, name and value."""
    return [(name.replace("_", " "), _words(value)) for name, value in report.as_json().items()]


def _words(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {one}" for key, one in value.items()) or "none"
        case bool():
            return "yes" if value else "no"
        case None:
            return "not measured"
        case _:
            return str(value)


def _spread(seconds: list[float]) -> str:
    measured = quantiles_ms(seconds)
    return f"{measured['p50'] / 1000:.1f}/{measured['p99'] / 1000:.1f} s" if measured else "-"
