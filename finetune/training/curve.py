"""`learning_curve.png`: loss over steps, of what is trained and of what is held out."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE_NAME = "learning_curve.png"
_BLUE, _ORANGE = "#0072b2", "#d55e00"  # can be told apart by everybody (Okabe and Ito)


def draw(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draw the metrics of a run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss, nats per trained token")
    for key, label, colour, marker in (("loss", "trained on", _BLUE, ""), ("held_out_loss", "held out", _ORANGE, "o")):
        points = [(values["step"], values[key]) for values in metrics if key in values]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path, dpi=120)
