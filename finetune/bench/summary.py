"""From what was measured to what is printed: medians and spread of each arm, ratios of rounds side by side. Pure.

The first step of each run is left out of every time: libraries are loaded and memory is taken there.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from finetune.bench import curves
from finetune.bench.work import OURS, TRL_DEFAULT, TRL_TUNED, Measured, Step

Rounds = Mapping[str, Sequence[Measured]]  # arm → its rounds, in order

LABELS: Final = {
    "trained_tokens_per_s": "trained tokens/s",
    "tokens_per_s": "all tokens/s",
    "fill_rate": "fill rate",
    "peak_memory_mib": "peak memory, MiB",
    "step_p50_s": "step p50, s",
    "matrix_share": "share of matrix rate",
    "held_out_loss": "held-out loss at the end",
}


def summary(rounds: Rounds) -> dict[str, Any]:
    """Return what the bench prints as JSON, as far as it comes from the measurements."""
    rate = statistics.median(run.matrix_flops_per_s for runs in rounds.values() for run in runs)
    trained = {name: runs[0].trained_tokens for name, runs in rounds.items()}
    return {
        "rounds": min(len(runs) for runs in rounds.values()),
        "device": rounds[OURS][0].device,
        "matrix_gflops_per_s": round(rate / 1e9, 2),
        "model_gflops": round(rounds[OURS][0].flops / 1e9, 2),
        "trained_tokens": trained,
        "same_trained_tokens": len(set(trained.values())) == 1,
        "arms": {name: _arm(runs, rate) for name, runs in rounds.items()},
        "ours_over": {name: _ratio(rounds[OURS], rounds[name]) for name in (TRL_DEFAULT, TRL_TUNED)},
        "loss_distance": {name: _distances(rounds[OURS], rounds[name]) for name in (TRL_DEFAULT, TRL_TUNED)},
    }


def _arm(runs: Sequence[Measured], rate: float) -> dict[str, Any]:
    def over(measure: Callable[[Measured], float]) -> dict[str, float]:
        return spread([measure(run) for run in runs])

    return {
        "steps": len(runs[0].steps),
        "trained_tokens_per_s": over(trained_tokens_per_s),
        "tokens_per_s": over(lambda run: _per_s(run, lambda step: step.tokens)),
        "fill_rate": over(fill_rate),
        "peak_memory_mib": over(lambda run: run.peak_memory_mib),
        "step_p50_s": over(lambda run: statistics.median(step.seconds for step in warm(run))),
        "matrix_share": over(lambda run: flops_per_s(run) / rate),
        "held_out_loss": over(lambda run: run.held_out_loss),
    }


def warm(run: Measured) -> Sequence[Step]:
    """Return the steps that times are taken from."""
    return run.steps[1:] or run.steps


def trained_tokens_per_s(run: Measured) -> float:
    """Return the tokens a second that the loss counts."""
    return _per_s(run, lambda step: step.trained)


def fill_rate(run: Measured) -> float:
    """Return the share of the computed places that hold a token, 0 to 1."""
    return sum(step.tokens for step in run.steps) / sum(step.places for step in run.steps)


def flops_per_s(run: Measured) -> float:
    """Return the model's operations a second: those of all rows, shared out by tokens."""
    return run.flops / sum(step.tokens for step in run.steps) * _per_s(run, lambda step: step.tokens)


def _per_s(run: Measured, count: Callable[[Step], int]) -> float:
    steps = warm(run)
    return sum(count(step) for step in steps) / sum(step.seconds for step in steps)


def _ratio(ours: Sequence[Measured], other: Sequence[Measured]) -> dict[str, float]:
    return spread([trained_tokens_per_s(one) / trained_tokens_per_s(two) for one, two in zip(ours, other, strict=True)])


def _distances(ours: Sequence[Measured], other: Sequence[Measured]) -> dict[str, float]:
    one, two = (mean_curve(runs) for runs in (ours, other))
    held_out = [first.held_out_loss - second.held_out_loss for first, second in zip(ours, other, strict=True)]
    return {"curve": round(curves.distance(one, two), 4), "held_out": round(statistics.median(held_out), 4)}


def mean_curve(runs: Sequence[Measured]) -> list[tuple[float, float]]:
    """Return the loss over trained tokens, the mean of all rounds."""
    return curves.mean([curves.curve(run.steps) for run in runs])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most, with five significant digits."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.5g}") for name, value in named.items()}


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table for people."""
    arms = result["arms"]
    lines = [f"{'median (least to most)':26}" + "".join(f"{name:>32}" for name in arms)]
    for key, label in LABELS.items():
        lines.append(f"{label:26}" + "".join(f"{_cell(figures[key]):>32}" for figures in arms.values()))
    for name, ratio in result["ours_over"].items():
        apart = result["loss_distance"][name]
        lines.append(
            f"{OURS} / {name}: {_cell(ratio)} times the trained tokens/s; losses {apart['curve']:.3f} nats apart at equal trained"
            f" tokens, held out {apart['held_out']:+.3f} at the end"
        )
    lines.append(f"One matrix product: {result['matrix_gflops_per_s']:.1f} GFLOP/s on {result['device']}.")
    return lines


def _cell(value: Mapping[str, float]) -> str:
    return f"{value['median']:.4g} ({value['min']:.4g} to {value['max']:.4g})"
