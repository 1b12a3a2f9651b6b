"""`kefu bench train`: the arms side by side in one run, round by round in turn, each time in a new process.

The order changes from round to round, so that a machine that gets slower or faster does not favour one. Each round has a seed of its
own, the same for all its arms.
"""

import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from dialogue.engine.bench.machine import hardware
from dialogue.engine.model_sources import ModelSources
from finetune.bench.plot import PLOT_NAME, draw
from finetune.bench.summary import mean_curve, summary, trained_tokens_per_s
from finetune.bench.work import ARMS, Measured, Terms, Work
from finetune.bench.workload import Workload, build_workload, write_tiny_model
from finetune.errors import TrainingFailed

PACKAGES: Final = ("kefu", "torch", "transformers", "peft", "trl", "accelerate", "datasets")
Tell = Callable[[str], None]
RunArm = Callable[[Work, Path], Measured]  # work, folder for its files → what was measured


@dataclass(frozen=True, slots=True)
class BenchSize:
    """How much is trained."""

    steps: int  # of TRL's default batch
    rounds: int
    rows: int | None = None  # different rows at most; None = as many as the steps need


FULL: Final = BenchSize(steps=8, rounds=3)
QUICK: Final = BenchSize(steps=4, rounds=1)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured with what."""

    model: str | None  # reference; None = a tiny model of random weights
    cache_dir: Path
    sources: ModelSources
    size: BenchSize
    seed: int = 17
    dataset: Path | None = None  # None = the data of the demonstration
    row_tokens: int = 512
    packs_at_once: int = 1
    threads: int | None = None
    out: Path | None = None  # folder for the picture


def run_bench(setting: Setting, tell: Tell, run_arm: RunArm | None = None) -> dict[str, Any]:
    """Measure all arms and return what `kefu bench train` prints as JSON. Raises FinetuneError and ModelError."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tell("Preparing the rows …")
        work, terms = _begin(setting, folder)
        tell(f"{len(work.data.train)} rows, {work.rows} different ones; {setting.size.rounds} rounds of {len(ARMS)} arms.")
        rounds = run_rounds(setting, terms, tell, folder, run_arm or in_process)
    if setting.out is not None:
        setting.out.mkdir(parents=True, exist_ok=True)
        draw({name: mean_curve(runs) for name, runs in rounds.items()}, setting.out / PLOT_NAME)
    return _described(setting, work, terms) | summary(rounds) | {"versions": versions(), "hardware": hardware()}


def _begin(setting: Setting, folder: Path) -> tuple[Workload, Terms]:
    reference = setting.model or str(write_tiny_model(folder / "tiny"))
    size = (setting.size.steps, setting.size.rows)
    work = build_workload(reference, setting.cache_dir, setting.sources, setting.dataset, size, setting.row_tokens)
    data = folder / "data.json"
    data.write_text(work.data.model_dump_json(), encoding="utf-8")
    end_token = work.base.tokenizer.special.eos or work.base.tokenizer.special.pad or ""
    terms = Terms(
        folder=work.base.folder,
        end_token=end_token,
        data=data,
        row_tokens=setting.row_tokens,
        packs_at_once=setting.packs_at_once,
        threads=setting.threads,
    )
    return work, terms


def run_rounds(setting: Setting, terms: Terms, tell: Tell, folder: Path, run_arm: RunArm) -> dict[str, list[Measured]]:
    """Run the arms in turn."""
    rounds: dict[str, list[Measured]] = {name: [] for name in ARMS}
    for number in range(setting.size.rounds):
        for name in ARMS if number % 2 == 0 else reversed(ARMS):
            measured = run_arm(Work(arm=name, seed=setting.seed + number, terms=terms), folder)
            rounds[name].append(measured)
            tell(f"round {number + 1}: {name}, {trained_tokens_per_s(measured):.1f} trained tokens/s")
    return rounds


def in_process(work: Work, folder: Path) -> Measured:
    """Run an arm in a new process. Raises TrainingFailed with the last thing that it said."""
    order, result = folder / "work.json", folder / "result.json"
    order.write_text(work.model_dump_json(), encoding="utf-8")
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "finetune.bench.child", str(order), str(result)]
    ended = subprocess.run(  # noqa: S603 - our own module
        command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if ended.returncode or not result.is_file():
        said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TrainingFailed(f"The arm {work.arm!r} ended with exit code {ended.returncode}: {said}")
    return Measured.model_validate_json(result.read_bytes())


def _described(setting: Setting, work: Workload, terms: Terms) -> dict[str, Any]:
    files = work.base.files
    return {
        "bench": "train",
        "model": "tiny" if setting.model is None else files.reference,
        "model_sha256": files.sha256,
        "data": "demo.toml" if setting.dataset is None else str(setting.dataset),
        "rows": len(work.data.train),
        "different_rows": work.rows,
        "seed": setting.seed,
        "lora": terms.lora.model_dump(mode="json"),
        "learning_rate": terms.learning_rate,
        "row_tokens": terms.row_tokens,
        "packs_at_once": terms.packs_at_once,
    }


def versions() -> dict[str, str]:
    """Return the versions that matter for a result."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
