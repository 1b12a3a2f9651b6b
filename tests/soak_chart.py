"""The plot of a soak: four small line charts in one SVG, drawn by hand, readable on light and on dark ground."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from tests.soak_samples import Sample

WIDTH, HEIGHT = 900, 560
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT = 62, 56, 360, 180
ACROSS, DOWN = 450, 262
TICKS: Final = 4
MOST_POINTS: Final = 600

_STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .faint { fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .warm { fill: #d1d9e0; opacity: .35 }
  .line { fill: none; stroke-width: 1.6; stroke-linejoin: round } .a { stroke: #0969da } .b { stroke: #bc4c00 }
  text.a { fill: #0969da; stroke: none } text.b { fill: #bc4c00; stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .faint { fill: #9198a1 } .grid { stroke: #3d444d } .warm { fill: #3d444d }
    .a { stroke: #4493f8 } .b { stroke: #f0883e } text.a { fill: #4493f8 } text.b { fill: #f0883e }
  }"""

Lines = Mapping[str, Callable[[Sample], float]]


@dataclass(frozen=True)
class Panel:
    """One chart: a title with the unit, and one or two lines."""

    title: str
    lines: Lines


PANELS: Final = (
    Panel("Memory (RSS), MB", {"RSS": lambda sample: sample.rss_mb}),
    Panel("Open", {"file handles": lambda sample: sample.handles, "threads": lambda sample: sample.threads}),
    Panel("Held", {"asyncio tasks": lambda sample: sample.tasks, "database connections": lambda sample: sample.connections}),
    Panel("On their way", {"inbox": lambda sample: sample.pending, "outbox": lambda sample: sample.unsent}),
)


def draw(samples: Sequence[Sample], *, title: str, warm_up_s: float) -> str:
    """Return the SVG."""
    thinned = samples[:: max(1, math.ceil(len(samples) / MOST_POINTS))]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>',
    ]
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, thinned, LEFT + ACROSS * (number % 2), TOP + DOWN * (number // 2), warm_up_s)
    return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True)
class _Frame:
    """Where a chart stands, and its scales."""

    left: int
    top: int
    ends_s: float
    step: float  # between two lines of the grid

    @property
    def bottom(self) -> int:
        return self.top + PANEL_HEIGHT

    @property
    def right(self) -> int:
        return self.left + PANEL_WIDTH

    def x(self, seconds: float) -> float:
        return self.left + PANEL_WIDTH * min(1.0, seconds / self.ends_s)

    def y(self, value: float) -> float:
        return self.bottom - PANEL_HEIGHT * value / (self.step * TICKS)


def _panel(panel: Panel, samples: Sequence[Sample], left: int, top: int, warm_up_s: float) -> list[str]:
    most = max(read(sample) for read in panel.lines.values() for sample in samples)
    frame = _Frame(left, top, max(sample.at_s for sample in samples) or 1.0, nice_step(most, TICKS))
    title = f'<text class="title" x="{left}" y="{top - 10}">{escape(panel.title)}</text>'
    warm = f'<rect class="warm" x="{left}" y="{top}" width="{frame.x(warm_up_s) - left:.1f}" height="{PANEL_HEIGHT}"/>'
    return [title, warm, *_grid(frame), *_minutes(frame), *_lines(panel.lines, samples, frame)]


def _grid(frame: _Frame) -> Iterator[str]:
    for tick in range(TICKS + 1):
        y = frame.y(frame.step * tick)
        yield f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="faint" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{frame.step * tick:g}</text>'


def _minutes(frame: _Frame) -> Iterator[str]:
    minutes = frame.ends_s / 60
    step = nice_step(minutes, TICKS)
    for tick in range(int(minutes / step + 0.02) + 1):
        x = frame.x(60 * step * tick)
        yield f'<text class="faint" x="{x:.1f}" y="{frame.bottom + 16}" text-anchor="middle">{step * tick:g}</text>'
    yield f'<text class="faint" x="{frame.right}" y="{frame.bottom + 32}" text-anchor="end">minutes; grey = warm-up</text>'


def _lines(lines: Lines, samples: Sequence[Sample], frame: _Frame) -> Iterator[str]:
    for number, (name, read) in enumerate(lines.items()):
        colour = "ab"[number]
        points = " ".join(f"{frame.x(sample.at_s):.1f},{frame.y(read(sample)):.1f}" for sample in samples)
        yield f'<polyline class="line {colour}" points="{points}"/>'
        yield f'<text class="{colour}" x="{frame.right - 140 * number}" y="{frame.top - 10}" text-anchor="end">{escape(name)}</text>'


def nice_step(most: float, ticks: int) -> float:
    """Return a round step with which so many of them reach `most`."""
    rough = max(most, 1e-9) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
