"""`loss.png`: the loss of each arm over trained tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from finetune.bench.curves import Curve

PLOT_NAME: Final = "loss.png"
_STYLES: Final = (("#d55e00", ":"), ("#009e73", "--"), ("#0072b2", "-"))  # can be told apart by everybody (Okabe and Ito)


def draw(arms: Mapping[str, Curve], path: Path) -> None:
    """Draw the curves of all arms."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="trained tokens", ylabel="loss, nats per trained token")
    for (name, points), (colour, line) in zip(arms.items(), _STYLES, strict=False):
        axes.plot(*zip(*points, strict=True), label=name, color=colour, linestyle=line)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
