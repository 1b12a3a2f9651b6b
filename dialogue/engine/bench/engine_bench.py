"""`kefu bench engine`: our stack beside the raw library, in one run, round by round in turn, medians and spread.

Both arms have the same model file, threads, slots, context and prompt cache, get token ids and produce replies of the same
length. The order changes from round to round (AB BA AB …), so that a machine that gets slower or faster does not favour one.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from dialogue.engine.base import Engine
from dialogue.engine.bench.arms import EngineArm, RawSettings, raw_arm
from dialogue.engine.bench.machine import hardware
from dialogue.engine.bench.workload import Arm, Render, Round, Workload, run_round

Report = Callable[[str], None]

OURS, RAW = "llamacpp", "raw"
FEWEST_TOKENS = 4
PACKAGES = ("kefu", "xllamacpp")


@dataclass(frozen=True, slots=True)
class BenchSize:
    """How long the bench takes."""

    workload: Workload
    seconds: float = 35.0  # no further pair of rounds is begun when it would end later
    most_rounds: int = 8


QUICK = BenchSize(Workload())
FULL = BenchSize(Workload(users=4, reply_tokens=64), seconds=240.0, most_rounds=12)


async def run_bench(
    engine: Engine, settings: RawSettings, render: Render, size: BenchSize = QUICK, report: Report = print
) -> dict[str, Any]:
    """Measure a not yet started engine beside the raw library; return what `kefu bench engine` prints as JSON.

    The engine must have been built with the values in `settings`. It is closed in the end. `report` gets lines for people.
    """
    try:
        info = await engine.start()
        async with raw_arm(settings) as raw:
            arms: dict[str, Arm] = {OURS: EngineArm(engine), RAW: raw}
            size = await fitted(arms, render, size)
            rounds = await run_rounds(arms, render, size, report)
    finally:
        await engine.close()
    result = {"bench": "engine", "model": info.model, "model_sha256": info.model_sha256, **asdict(size.workload)}
    result |= {key: value for key, value in asdict(settings).items() if key != "model"}
    result |= summary(rounds, size.workload) | {"versions": versions(), "hardware": hardware()}
    for line in table(result, size.workload):
        report(line)
    return result


async def run_rounds(arms: dict[str, Arm], render: Render, size: BenchSize, report: Report) -> dict[str, list[Round]]:
    """Run the arms in turn until the time is up."""
    rounds: dict[str, list[Round]] = {name: [] for name in arms}
    began = time.monotonic()
    for number in range(size.most_rounds):
        pair_began = time.monotonic()
        for name in list(arms) if number % 2 == 0 else list(arms)[::-1]:
            rounds[name].append(await run_round(arms[name], render, size.workload, f"round {number}"))
        now = time.monotonic()
        report(f"round {number + 1}: " + ", ".join(f"{name} {taken[-1].tokens_per_s:.1f} tokens/s" for name, taken in rounds.items()))
        if now - began + (now - pair_began) > size.seconds:
            break
    return rounds


async def fitted(arms: dict[str, Arm], render: Render, size: BenchSize) -> BenchSize:
    """Warm up, and shorten the replies where two rounds of each arm would take longer than there is time."""
    workload = size.workload
    pair_s = 0.0
    for name, arm in arms.items():
        warm = await run_round(arm, render, replace(workload, turns=1), f"warm-up {name}")
        pair_s += workload.turns * max(sample.total_ms for sample in warm.turns[0]) / 1000
    fitting = int(workload.reply_tokens * size.seconds / (2 * pair_s))
    return replace(size, workload=replace(workload, reply_tokens=max(FEWEST_TOKENS, min(workload.reply_tokens, fitting))))


def summary(rounds: dict[str, list[Round]], workload: Workload) -> dict[str, Any]:
    """Return the medians and spreads of both arms, and of the ratios of rounds that stood side by side."""
    last = workload.turns
    arms = {
        name: {
            "tokens_per_s": spread([taken.tokens_per_s for taken in every]),
            "decode_tokens_per_s": spread([taken.decode_tokens_per_s for taken in every]),
            "ttft_turn_1_ms": spread([taken.ttft_ms(1) for taken in every]),
            f"ttft_turn_{last}_ms": spread([taken.ttft_ms(last) for taken in every]),
            "ttft_last_over_first": spread([taken.ttft_ms(last) / taken.ttft_ms(1) for taken in every]),
            "prompt_tokens_last": every[0].turns[-1][0].prompt_tokens,
            "cached_tokens_last": every[0].turns[-1][0].cached_tokens,
        }
        for name, every in rounds.items()
    }
    pairs = list(zip(rounds[OURS], rounds[RAW], strict=True))
    ratios = {
        "tokens_per_s": spread([ours.tokens_per_s / raw.tokens_per_s for ours, raw in pairs]),
        "decode_tokens_per_s": spread([ours.decode_tokens_per_s / raw.decode_tokens_per_s for ours, raw in pairs]),
        "ttft_turn_1": spread([ours.ttft_ms(1) / raw.ttft_ms(1) for ours, raw in pairs]),
        f"ttft_turn_{last}": spread([ours.ttft_ms(last) / raw.ttft_ms(last) for ours, raw in pairs]),
    }
    same = all(_texts(ours) == _texts(raw) for ours, raw in pairs)
    return {"rounds": len(pairs), "arms": arms, "ours_over_raw": ratios, "same_texts": same}


def _texts(taken: Round) -> list[str]:
    return [sample.text for turn in taken.turns for sample in turn]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most, rounded."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def table(result: dict[str, Any], workload: Workload) -> list[str]:
    """Return the lines of a small table."""
    rows = ["tokens_per_s", "decode_tokens_per_s", "ttft_turn_1_ms", f"ttft_turn_{workload.turns}_ms", "ttft_last_over_first"]
    lines = [f"{'median (least to most)':24}{OURS:>28}{RAW:>28}{'ours/raw':>10}"]
    for row in rows:
        cells = [result["arms"][name][row] for name in (OURS, RAW)]
        ratio = result["ours_over_raw"].get(row.removesuffix("_ms"))
        shown = "".join(f"{cell['median']:>10.2f} ({cell['min']:.2f} to {cell['max']:.2f})".rjust(28) for cell in cells)
        lines.append(f"{row:24}{shown}" + (f"{ratio['median']:>10.3f}" if ratio else ""))
    return lines


def versions() -> dict[str, str]:
    """Return the versions that matter for a result."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
