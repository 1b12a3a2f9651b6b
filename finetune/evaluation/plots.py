"""The pictures of the report, as SVG that stands in the page: they scale on a phone and need no network. Pure.

Colours are classes of the page's style (`candidate`, `incumbent`, `base`), so that a dark page has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from markupsafe import Markup

from dialogue.normalise import escape_control
from finetune.evaluation.verdict import Comparison

WIDTH: Final = 440
_LEFT: Final = 84  # room for the names of the models
_RIGHT: Final = 100  # room for their values
_ROW: Final = 26
_AXIS: Final = 28


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval, of one model."""

    model: str
    value: float
    low: float
    high: float
    label: str  # the value for people


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to places."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value; what lies outside stands at the edge."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


def dots(rows: Sequence[Dot], *, share: bool) -> Markup:
    """Return a row for each model: a dot with its interval. A share is drawn from 0 to 1, everything else where its values are."""
    low, high = (0.0, 1.0) if share else _padded([bound for dot in rows for bound in (dot.low, dot.high)])
    scale = Scale(low, high, _LEFT, WIDTH - _RIGHT)
    height = _ROW * len(rows) + 8
    picture = _picture(height, ", ".join(f"{dot.model}: {dot.label}" for dot in rows))
    for number, dot in enumerate(rows):
        y = 4 + _ROW * number + _ROW / 2
        _text(picture, 0, y + 4, dot.model)
        _line(picture, (_LEFT, y), (WIDTH - _RIGHT, y), "rail")
        _line(picture, (scale.at(dot.low), y), (scale.at(dot.high), y), f"whisker {dot.model}")
        SubElement(picture, "circle", {"cx": str(scale.at(dot.value)), "cy": str(y), "r": "5", "class": f"dot {dot.model}"})
        _text(picture, WIDTH, y + 4, dot.label, "end")
    return _finished(picture)


def gain_bar(gain: Comparison) -> Markup:
    """Return a small picture of a gain: zero in the middle, the interval, the margin as a mark."""
    width, height = 120, 18
    reach = max(abs(gain.gain), *(abs(bound) for bound in (gain.low, gain.high) if np.isfinite(bound)), gain.margin or 0.0) or 1.0
    scale = Scale(-reach, reach, 5, width - 5)
    picture = _picture(height, "gain", width)
    _line(picture, (scale.at(0), 1), (scale.at(0), height - 1), "zero")
    if gain.margin is not None and not gain.main:
        _line(picture, (scale.at(-gain.margin), 4), (scale.at(-gain.margin), height - 4), "margin")
    kind = "better" if gain.low > 0 else "worse" if gain.high < 0 else "unsure"
    _line(picture, (scale.at(gain.low), height / 2), (scale.at(gain.high), height / 2), f"whisker {kind}")
    SubElement(picture, "circle", {"cx": str(scale.at(gain.gain)), "cy": str(height / 2), "r": "4", "class": f"dot {kind}"})
    return _finished(picture)


def strips(values: Mapping[str, Sequence[float]], unit: str) -> Markup:
    """Return a row for each model: from the 5th to the 95th percentile as a line, the middle half as a bar, the median as a mark."""
    filled = {model: each for model, each in values.items() if len(each)}
    top = max((float(np.quantile(each, 0.95)) for each in filled.values()), default=0.0) or 1.0
    scale = Scale(0.0, top, _LEFT, WIDTH - _RIGHT)
    picture = _picture(_ROW * len(filled) + 8, f"distribution in {unit}")
    for number, (model, each) in enumerate(filled.items()):
        y = 4 + _ROW * number + _ROW / 2
        p5, p25, p50, p75, p95 = (float(value) for value in np.quantile(each, [0.05, 0.25, 0.5, 0.75, 0.95]))
        _text(picture, 0, y + 4, model)
        _line(picture, (scale.at(p5), y), (scale.at(p95), y), f"whisker {model}")
        _line(picture, (scale.at(p25), y), (scale.at(p75), y), f"bar {model}")
        _line(picture, (scale.at(p50), y - 8), (scale.at(p50), y + 8), "median")
        _text(picture, WIDTH, y + 4, f"{p50:.0f} {unit}", "end")
    return _finished(picture)


def learning_curve(metrics: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return loss over steps, of what was trained and of what was held out; None when nothing was measured."""
    series = {
        name: [(float(each["step"]), float(each[key])) for each in metrics if isinstance(each.get(key), int | float)]
        for key, name in (("loss", "trained"), ("held_out_loss", "held-out"))
    }
    points = [point for line in series.values() for point in line]
    if len(points) < 2:
        return None
    height = 220
    bottom = height - _AXIS
    across = Scale(min(x for x, _ in points), max(x for x, _ in points), 44, WIDTH - 8)
    low, high = _padded([y for _, y in points])
    up = Scale(low, high, bottom, 8)
    picture = _picture(height, "loss in nats per trained token, over steps")
    for value in (low, (low + high) / 2, high):
        _line(picture, (44, up.at(value)), (WIDTH - 8, up.at(value)), "rail")
        _text(picture, 38, up.at(value) + 4, f"{value:.2f}", "end")
    for name, line in series.items():
        where = " ".join(f"{across.at(x)},{up.at(y)}" for x, y in line)
        SubElement(picture, "polyline", {"points": where, "class": f"curve {name}"})
        for x, y in line if name == "held-out" else ():
            SubElement(picture, "circle", {"cx": str(across.at(x)), "cy": str(up.at(y)), "r": "4", "class": f"dot {name}"})
    _text(picture, 44, height - 8, f"step {across.low:.0f}")
    _text(picture, WIDTH - 8, height - 8, f"step {across.high:.0f}", "end")
    return _finished(picture)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return a range a little wider than the finite values."""
    finite = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    pad = 0.08 * (max(finite) - min(finite)) or 0.5
    return min(finite) - pad, max(finite) + pad


def _picture(height: float, about: str, width: int = WIDTH) -> Element:
    return Element("svg", {"viewBox": f"0 0 {width} {height:g}", "role": "img", "aria-label": escape_control(about)})


def _line(picture: Element, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
    places = zip(("x1", "y1", "x2", "y2"), (*start, *end), strict=True)
    SubElement(picture, "line", {**{name: f"{place:g}" for name, place in places}, "class": kind})


def _text(picture: Element, x: float, y: float, text: str, anchor: str = "start") -> None:
    SubElement(picture, "text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor}).text = escape_control(text)


def _finished(picture: Element) -> Markup:
    return Markup(tostring(picture, encoding="unicode"))  # noqa: S704 - ElementTree has escaped every text
