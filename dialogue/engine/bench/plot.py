"""The pictures beside the JSON: latency against load, throughput against users, of single turns. PNG and SVG. Imports matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from dialogue.engine.bench.summary import curve

FORMATS: Final = ("png", "svg")
LATENCIES: Final = (("ttft_ms.p50", "TTFT p50, ms"), ("tpot_ms.p50", "TPOT p50, ms"), ("e2e_ms.p50", "E2E p50, ms"))
# Colours that everybody can tell apart (Okabe and Ito, then Tol), with a line and a mark each.
STYLES: Final = (
    ("#0072b2", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#009e73", "-.", "^"),
    ("#cc79a7", ":", "D"),
    ("#e69f00", "-", "v"),
    ("#56b4e9", "--", "P"),
    ("#000000", ":", "x"),
    ("#882255", "-.", "*"),
    ("#117733", ":", "<"),
    ("#332288", "--", ">"),
    ("#999933", "-.", "h"),
    ("#aa4499", "-", "p"),
    ("#666666", "--", "d"),
    ("#44aa99", ":", "8"),
)


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw both pictures and return their files; none where there were no single turns."""
    cases = [case for case in result["cases"].values() if case["workload"] == "single"]
    if not cases:
        return []
    arms = list(dict.fromkeys(arm for case in cases for arm in case["arms"]))
    latency = _figure(cases, arms, LATENCIES, log=True)
    throughput = _figure(cases, arms, (("output_tokens_per_s", "output tokens/s"),), log=False)
    return [*_save(latency, folder / "latency"), *_save(throughput, folder / "throughput")]


def _figure(cases: Sequence[Mapping[str, Any]], arms: Sequence[str], panels: Sequence[tuple[str, str]], *, log: bool) -> Figure:
    """`log`: latencies, among which those of an arm that answers one after the other would press all others to the ground."""
    figure = Figure(figsize=(4.4 * len(panels) + 2.6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    users = sorted({case["users"] for case in cases})
    for number, (name, label) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1, xlabel="users at the same time", ylabel=label)
        for arm, style in zip(arms, STYLES * len(arms), strict=False):
            _line(axes, curve(cases, arm, name), arm, style)
        axes.set_xscale("log", base=2)
        axes.set_xticks(users, [str(each) for each in users])
        axes.grid(alpha=0.3)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.margins(y=0.12)
            axes.set_ylim(bottom=0)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _line(axes: Any, points: Sequence[tuple[int, Mapping[str, float]]], arm: str, style: tuple[str, str, str]) -> None:
    """Draw an arm: medians, and from the least to the most of the rounds."""
    if not points:
        return
    colour, line, mark = style
    users = [x for x, _ in points]
    medians = [y["median"] for _, y in points]
    around = [[y["median"] - y["min"] for _, y in points], [y["max"] - y["median"] for _, y in points]]
    axes.errorbar(users, medians, yerr=around, label=arm, color=colour, linestyle=line, marker=mark, capsize=3, markersize=5)


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(f".{kind}") for kind in FORMATS]
    for file in files:
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files
