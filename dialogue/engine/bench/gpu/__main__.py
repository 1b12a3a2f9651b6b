"""`python -m dialogue.engine.bench.gpu`: how fast the engine on torch is on a GPU. Figures on stdout, the last line one JSON object."""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import torch

from dialogue.engine.bench.device import device_bandwidth
from dialogue.engine.bench.gpu.arms import WAYS, Measured, Prompts, Subject, opened, subject
from dialogue.engine.bench.gpu.shapes import SHAPES
from dialogue.engine.bench.machine import copy_bandwidth, hardware
from dialogue.engine.bench.metrics import ModelCost, percentile, roofline_share, spread
from dialogue.engine.local.decoder_worker import STEP_TOKENS

PLAIN: Final = ("local", "local-no-graphs", "local-no-overlap", "generate", "static")
ADAPTED: Final = ("local-merged", "local-adapters")
WARM_UP_TOKENS: Final = 8
MOST_LOSS: Final = 0.25  # of tokens a second, by sixteen adapters beside one that is merged
EXAMPLES: Final = """examples:
  python -m dialogue.engine.bench.gpu                                     everything, in about five minutes on an H100
  python -m dialogue.engine.bench.gpu --shapes Qwen3-8B --users 256       one shape
  python -m dialogue.engine.bench.gpu --device cpu --shapes tiny --users 1,4 --reply-tokens 8   try the bench itself
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured in one go: its arms take turns."""

    shape: str
    users: int
    arms: tuple[str, ...]


@dataclass(slots=True)
class Result:
    """What has been measured so far."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the options. Exits with 2 for wrong ones."""
    parser = argparse.ArgumentParser(prog="python -m dialogue.engine.bench.gpu", description=__doc__, epilog=EXAMPLES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", type=_names(SHAPES), default=["SmolLM2-135M", "Qwen3-0.6B", "Qwen3-8B"], help=", ".join(SHAPES))
    parser.add_argument("--users", type=_numbers, default=[1, 64, 256], help="default: 1,64,256")
    parser.add_argument("--adapters-shape", choices=list(SHAPES), default="Qwen3-0.6B", help="where sixteen adapters are measured")
    parser.add_argument("--adapters-users", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--reply-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=300.0, help="no further case is begun after so long (default: 300)")
    parser.add_argument("--seed", type=int, default=17)
    return parser.parse_args(words)


def _names(known: Any) -> Any:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
        return found

    return names


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,64") from None
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("at least one user asks")
    return numbers


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Return the cases, those with few users first."""
    for shape in options.shapes:
        for users in options.users:
            yield Case(shape, users, tuple(name for name in PLAIN if users <= WAYS[name].users))
        if shape == options.adapters_shape:
            yield Case(shape, options.adapters_users, ADAPTED)


def measure(case: Case, measured: Subject, options: argparse.Namespace, bandwidth: float) -> dict[str, Any]:
    """Return the figures of a case: all arms in turn, round by round, each warmed up."""
    numbers, vocabulary = np.random.default_rng(options.seed), measured.model.config.vocab_size
    prompts = [[int(token) for token in numbers.integers(3, vocabulary, options.prompt_tokens)] for _ in range(case.users)]
    runs: dict[str, list[Measured]] = {name: [] for name in case.arms}
    peaks: dict[str, float] = {}
    for number in range(options.rounds):
        for name in case.arms if number % 2 == 0 else reversed(case.arms):
            _free(measured.model)
            runs[name].append(_run(name, measured, prompts, options.reply_tokens))
            peaks[name] = max(peaks.get(name, 0.0), _peak_mib(measured.model))
    return {
        "shape": case.shape,
        "users": case.users,
        "arms": {name: _figures(found, case.users, measured.cost, bandwidth, peaks[name]) for name, found in runs.items()},
    }


def _run(name: str, measured: Subject, prompts: Prompts, reply_tokens: int) -> Measured:
    """Open an arm, warm it up and measure it. Nothing of it is left behind that the next one's memory would count."""
    longest = max(map(len, prompts))
    arm = opened(measured, WAYS[name], len(prompts), longest + reply_tokens)
    # Replies so long that the first is not over when the last prompt is read: then steps of every size have been recorded.
    reading = len(prompts) * longest // STEP_TOKENS[measured.model.device.type]
    try:
        arm.run([prompt[::-1] for prompt in prompts], min(WARM_UP_TOKENS + reading, reply_tokens))
        return arm.run(prompts, reply_tokens)
    finally:
        arm.close()


def _figures(runs: Sequence[Measured], users: int, needed: ModelCost, bandwidth: float, peak_mib: float) -> dict[str, Any]:
    shares = [share for run in runs if (share := roofline_share(run.samples, needed, users, bandwidth)) is not None]
    return {
        "output_tokens_per_s": spread([sum(sample.tokens for sample in run.samples) / run.seconds for run in runs]),
        "ttft_ms": _percentiles([[sample.ttft_ms for sample in run.samples] for run in runs]),
        "tpot_ms": _percentiles([[sample.tpot_ms or 0.0 for sample in run.samples] for run in runs]),
        "roofline": spread(shares) if shares else None,
        "peak_device_memory_mib": round(peak_mib),
        **runs[-1].about,
    }


def _percentiles(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the median over the rounds of p50 and p99 within each."""
    return {f"p{percent}": round(statistics.median(percentile(values, percent) for values in rounds), 3) for percent in (50, 99)}


def _free(model: Any) -> None:
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_mib(model: Any) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if model.device.type == "cuda" else 0.0


def aims(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was hoped for beside what was measured."""
    found: list[dict[str, Any]] = []
    for case in measured:
        rates = {name: figures["output_tokens_per_s"]["median"] for name, figures in case["arms"].items()}
        aim = SHAPES[case["shape"]].aims.get(case["users"])
        if aim is not None and "local" in rates:
            found.append(_aim(f"{case['shape']}, {case['users']} users: tokens/s", aim, rates["local"]))
        if "local-adapters" in rates:
            share = rates["local-adapters"] / rates["local-merged"]
            found.append(_aim(f"{case['shape']}: sixteen adapters over one merged, tokens/s", 1 - MOST_LOSS, round(share, 3)))
    return found


def _aim(what: str, aim: float, measured: float) -> dict[str, Any]:
    return {"what": what, "aim": aim, "measured": measured, "met": measured >= aim}


def run(options: argparse.Namespace) -> Result:
    """Measure all cases that the time allows; a shape's model is made once."""
    began, result = time.monotonic(), Result()
    measured: Subject | None = None
    made = ""
    bandwidth = device_bandwidth("cuda") if options.device == "cuda" else copy_bandwidth(torch.get_num_threads())
    for case in cases(options):
        name = f"{case.shape}, {case.users} users ({', '.join(case.arms)})"
        if time.monotonic() - began > options.seconds:
            result.left_out.append(name)
            continue
        _say(f"{time.monotonic() - began:4.0f} s  {name} …")
        try:
            if measured is None or made != case.shape:
                measured = None
                gc.collect()
                measured, made = subject(SHAPES[case.shape], options.device, options.seed), case.shape
            result.cases.append(measure(case, measured, options, bandwidth))
        except torch.OutOfMemoryError:
            result.left_out.append(f"{name}: the device has not enough memory")
    return result


def environment(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    found: dict[str, Any] = {
        "hardware": hardware(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "options": {name: value for name, value in vars(options).items() if name != "seed"},
        "seed": options.seed,
    }
    if options.device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader"]
        try:
            found["driver"] = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            found["driver"] = f"unknown: {type(error).__name__}"
    return found


def table(result: Result) -> str:
    """Return the figures for people."""
    lines = [f"{'':34}{'tokens/s':>18}{'TTFT p50/p99 ms':>20}{'TPOT p50 ms':>13}{'roofline':>10}{'MiB':>8}"]
    for case in result.cases:
        lines.append(f"{case['shape']}, {case['users']} users")
        for name, each in case["arms"].items():
            rate, share = each["output_tokens_per_s"], each["roofline"]
            speed = f"{rate['median']:.0f} ({rate['min']:.0f}–{rate['max']:.0f})"
            first = f"{each['ttft_ms']['p50']:.1f} / {each['ttft_ms']['p99']:.1f}"
            used = f"{share['median']:.2f}" if share else "—"
            lines.append(f"  {name:32}{speed:>18}{first:>20}{each['tpot_ms']['p50']:>13.2f}{used:>10}{each['peak_device_memory_mib']:>8}")
    lines += [
        f"{'met   ' if each['met'] else 'missed'}  {each['what']}: {each['measured']:g}, aim {each['aim']:g}" for each in aims(result.cases)
    ]
    lines += [f"not measured  {each}" for each in result.left_out]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress, for people


def main(words: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit code."""
    options = parsed(sys.argv[1:] if words is None else words)
    if options.device == "cuda" and not torch.cuda.is_available():
        _say("There is no CUDA device. To try the bench itself: --device cpu --shapes tiny --users 1,4 --reply-tokens 8")
        return 69
    try:
        result = run(options)
    except KeyboardInterrupt:
        _say("Interrupted.")
        return 130
    print(table(result))  # noqa: T201 - the command's output
    print(json.dumps({**environment(options), "cases": result.cases, "aims": aims(result.cases), "left_out": result.left_out}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
