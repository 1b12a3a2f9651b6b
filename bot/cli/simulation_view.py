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
from bot.simulation import Scene, quantiles_ms

REFRESH_S: Final = 0.5
LINE_S: Final = 5.0
MOST_PEOPLE: Final = 24  # that a table shows; the totals are about everybody
OTHER_LINES: Final = 8  # of the picture, around the people: the totals, which may need three, must stay on the screen

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
            live.update(render(scene, most=console.height - OTHER_LINES), refresh=True)
            await sleep(REFRESH_S)


def line(scene: Scene) -> str:
    """Return the totals in one line."""
    if scene.ready_at is None:
        return "the engine starts …"
    return f"{scene.elapsed_s:.0f} s: " + ", ".join(f"{name} {value}" for name, value in totals(scene).items())


def render(scene: Scene, *, most: int = MOST_PEOPLE) -> RenderableType:
    """Return the whole picture; at most so many people have a line of their own."""
    people = Table("person", box=None, pad_edge=False, header_style="bold")
    people.add_column("does", min_width=15)
    people.add_column("state", min_width=11)
    for name in ("sent", "answered", "last answer"):
        people.add_column(name, justify="right")
    shown = max(1, min(most, MOST_PEOPLE))
    for person in scene.crowd.people[:shown]:
        people.add_row(*_cells(scene, person))
    hidden = len(scene.crowd.people) - shown
    more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
    summary = Text(", ".join(f"{name} {value}" for name, value in totals(scene).items()))
    return Group(Text(_heading(scene), style="bold"), people, *more, Text(), summary)


def _heading(scene: Scene) -> str:
    if scene.ready_at is None:
        return "the engine starts …"
    planned_s = scene.plan.minutes * 60
    if scene.elapsed_s > planned_s:
        return f"{scene.elapsed_s:.0f} s; the last answers are on their way"
    return f"{scene.elapsed_s:.0f} s of {planned_s:.0f} s; Ctrl-C ends it"


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
        "too early": str(len(scene.telegram.violations())),
    }


def _spread(seconds: list[float]) -> str:
    measured = quantiles_ms(seconds)
    return f"{measured['p50'] / 1000:.1f} s (99 %: {measured['p99'] / 1000:.1f} s)" if measured else "-"
