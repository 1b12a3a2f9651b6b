"""From the runs of all rounds to what is printed: medians and spread of each arm, ratios of runs that stood side by side. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dialogue.engine.bench.arm_table import BASELINES, OURS
from dialogue.engine.bench.metrics import interval, spread
from dialogue.engine.bench.workload import Case

RATIOS: Final = ("output_tokens_per_s", "ttft_ms.p50", "tpot_ms.p50", "e2e_ms.p50", "ttft_last_turn_ms")
PAIRS: Final = (*((ours, base) for ours in OURS for base in BASELINES), *((each.partition("-")[0], each) for each in OURS if "-" in each))
COLUMNS: Final = (
    ("output_tokens_per_s", "tokens/s"),
    ("ttft_ms.p50", "TTFT p50"),
    ("ttft_ms.p99", "TTFT p99"),
    ("tpot_ms.p50", "TPOT p50"),
    ("itl_ms.p99", "ITL p99"),
    ("e2e_ms.p50", "E2E p50"),
    ("goodput_per_s", "goodput/s"),
    ("ttft_last_turn_ms", "last TTFT"),
    ("prefix_hit_rate", "prefix hits"),
    ("roofline_share", "roofline"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One arm's run of a case in one round."""

    case: Case
    arm: str
    round: int
    metrics: Mapping[str, Any]
    texts: tuple[str, ...]


def flat(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return nested figures by dotted names."""
    result: dict[str, float | None] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            result |= {f"{name}.{inner}": figure for inner, figure in flat(value).items()}
        else:
            result[name] = value
    return result


def case_summary(case: Case, runs: Sequence[Run]) -> dict[str, Any]:
    """Return medians, spreads and ratios of one case."""
    mine = {arm: [run for run in runs if run.arm == arm and run.case == case] for arm in _in_order(run.arm for run in runs)}
    mine = {arm: each for arm, each in mine.items() if each}
    pairs = [pair for pair in PAIRS if mine.keys() >= set(pair)]
    return {
        "workload": case.workload,
        "users": case.users,
        "arms": {arm: _figures(each) for arm, each in mine.items()},
        "over": {f"{ours}/{base}": _ratios(mine[ours], mine[base]) for ours, base in pairs},
    }


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    columns = [flat(run.metrics) for run in runs]
    names = _in_order(name for column in columns for name in column)
    figures = {name: [value for column in columns if (value := column.get(name)) is not None] for name in names}
    return {"rounds": len(runs)} | {name: spread(values) if values else None for name, values in figures.items()}


def _ratios(ours: Sequence[Run], base: Sequence[Run]) -> dict[str, Any]:
    """Return ours over the other, round by round; what one of them lacks is left out."""
    there = {run.round: run for run in base}
    pairs = [(run, there[run.round]) for run in ours if run.round in there]
    result: dict[str, Any] = {"same_texts": all(one.texts == two.texts for one, two in pairs)}
    for name in RATIOS:
        figures = [(flat(one.metrics).get(name), flat(two.metrics).get(name)) for one, two in pairs]
        ratios = [one / two for one, two in figures if one is not None and two]
        if ratios:
            result[name] = spread(ratios) | {"interval": interval(ratios)}
    return result


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of the tables for people: the median of each figure, and the ratios with what lies around them."""
    cases = [line for name, case in result["cases"].items() for line in (*_rows(name, case), *_ratio_lines(case), "")]
    arms = [f"{arm}: {', '.join(_told(about, result['peak_memory'].get(arm, {})))}" for arm, about in result["about"].items()]
    return cases + arms


def _told(about: Mapping[str, Any], peaks: Mapping[str, float]) -> Iterable[str]:
    """Yield what people want to know of an arm itself."""
    yield from (f"{label}{about[key]}" for key, label in (("device", ""), ("dtype", ""), ("attention", "attention ")) if key in about)
    yield from (f"{name.replace('_mib', '').replace('_', ' ')} {value:.0f} MiB" for name, value in peaks.items())


def _rows(name: str, case: Mapping[str, Any]) -> list[str]:
    header = f"{name:18}" + "".join(f"{label:>12}" for _, label in COLUMNS) + "   (times in ms)"
    return [
        header,
        *(f"  {arm:16}" + "".join(f"{_cell(figures.get(key)):>12}" for key, _ in COLUMNS) for arm, figures in case["arms"].items()),
    ]


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "–"
    value = figure["median"]
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio_lines(case: Mapping[str, Any]) -> list[str]:
    return [f"  {pair}: {shown}" for pair, ratios in case["over"].items() if (shown := ", ".join(_shown(ratios)))]


def _shown(ratios: Mapping[str, Any]) -> Iterable[str]:
    for name, label in (("output_tokens_per_s", "tokens/s"), ("e2e_ms.p50", "E2E"), ("ttft_last_turn_ms", "last TTFT")):
        if name in ratios:
            figure = ratios[name]
            low, high = figure["interval"] or (figure["min"], figure["max"])
            yield f"{label} × {figure['median']:.3f} ({'95 %: ' if figure['interval'] else ''}{low:.3f} to {high:.3f})"


def curve(cases: Iterable[Mapping[str, Any]], arm: str, figure: str) -> list[tuple[int, Mapping[str, float]]]:
    """Return a figure of an arm over the users of single turns."""
    mine = [(case["users"], case["arms"][arm].get(figure)) for case in cases if case["workload"] == "single" and arm in case["arms"]]
    return [(users, value) for users, value in sorted(mine, key=lambda pair: pair[0]) if value is not None]
