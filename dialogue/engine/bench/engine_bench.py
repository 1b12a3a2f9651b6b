"""`kefu bench engine`: the arms side by side in one run, round by round in turn, medians and spread.

All arms get the same prompts as token ids and produce replies of the same length. Their order changes from round to round (AB BA AB …),
so that a machine that gets slower or faster does not favour one. Each arm is a process of its own.
"""

import asyncio
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from dialogue.engine.bench.arm_table import ArmKind, lacking, measures, needs_adapters
from dialogue.engine.bench.fleet import Fleet, Terms
from dialogue.engine.bench.machine import copy_bandwidth, hardware, has_cuda, load_average
from dialogue.engine.bench.metrics import ModelCost, Objective, roofline_share, run_metrics, spread
from dialogue.engine.bench.model_cost import gguf_cost, torch_cost
from dialogue.engine.bench.random_adapters import write_adapters
from dialogue.engine.bench.samples import Sample
from dialogue.engine.bench.summary import Run, case_summary
from dialogue.engine.bench.workload import (
    ADAPTERS,
    SINGLE,
    Case,
    Conversation,
    Language,
    Sizes,
    cases,
    context_tokens,
    conversations,
    shortened,
    trial,
    work_tokens,
)
from dialogue.engine.cpu_cores import usable_cores
from dialogue.errors import ConfigurationInvalid, EngineUnavailable

PACKAGES: Final = ("kefu", "xllamacpp", "torch", "transformers", "peft")
FLOAT32_BYTES, BFLOAT16_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    arms: tuple[ArmKind, ...]
    sizes: Sizes
    rounds: int = 3
    objective: Objective = field(default_factory=Objective)
    seconds: float | None = None  # no further round is begun that would end later, and replies are cut to what fits; None = no limit
    apart: bool = False  # one arm's process at a time
    bandwidth: Callable[[int], float] = copy_bandwidth  # by threads; bytes a second


QUICK: Final = Sizes(
    users=(1, 4), reply_tokens=32, chat_users=1, chat_tokens=24, think_s=0.0, long_tokens=512, workloads=("single", "multi-turn")
)
QUICK_SECONDS: Final = 40.0


@dataclass(slots=True)
class Record:
    """What has been measured so far."""

    runs: list[Run] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    bandwidths: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


class Progress:
    """Whom the bench tells how far it is. Tells nobody."""

    def tell(self, text: str) -> None:
        """A line for people."""

    def total(self, steps: int) -> None:
        """So many runs will come."""

    def step(self) -> None:
        """One run is over."""


async def run_bench(plan: Plan, terms: Terms, language: Language, progress: Progress | None = None) -> dict[str, Any]:
    """Measure all arms and return what `kefu bench engine` prints as JSON.

    What cannot be measured here is named with the reason. Raises EngineUnavailable when no arm is left,
    and ConfigurationInvalid for requests that the model has no room for.
    """
    progress = progress or Progress()
    skipped = _skipped(plan, terms, progress)
    plan = replace(plan, arms=tuple(kind for kind in plan.arms if kind.name not in skipped))
    if not plan.arms:
        raise EngineUnavailable("No arm can be measured here.")
    with tempfile.TemporaryDirectory(prefix="kefu-bench-") as place:
        terms = await _prepared(plan, terms, language, Path(place))
        # A GPU replays steps that are recorded for each number of requests, when they first come.
        warm_ups = [trial(f"warm-up {number}", plan.sizes, language) for number in range(terms.engine.slots if has_cuda() else 1)]
        async with Fleet(terms, warm_ups, progress.tell, apart=plan.apart) as fleet:
            bench = _Bench(plan, terms, language, fleet, progress)
            await bench.run()
    return bench.result(skipped)


def _skipped(plan: Plan, terms: Terms, progress: Progress) -> dict[str, str]:
    reasons = {kind.name: lacking(kind, terms.files, terms.url) for kind in plan.arms}
    skipped = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in skipped.items():
        progress.tell(f"{name} is left out. {reason}")
    return skipped


async def _prepared(plan: Plan, terms: Terms, language: Language, folder: Path) -> Terms:
    """Return the terms with a context that fits the prompts, and with adapters where they are needed."""
    longest = max(context_tokens(case, plan.sizes, language) for case in cases(plan.sizes))
    if terms.files is not None and longest > terms.files.context_tokens:
        error = ConfigurationInvalid(f"A request takes up to {longest} tokens; the model was made for {terms.files.context_tokens}.")
        error.hint = "Ask for less with --long-tokens, --turns, --prompt-tokens or --workloads."
        raise error
    count = max([kind.adapters for kind in plan.arms] + [plan.sizes.adapters] * (ADAPTERS in plan.sizes.workloads))
    if count and terms.files is not None and not terms.adapters:
        refs = await asyncio.to_thread(write_adapters, count, terms.files, folder, terms.engine.cache_dir)
        terms = replace(terms, adapters=refs)
    return replace(terms, engine=replace(terms.engine, context_tokens=longest))


def schedule(arms: Sequence[ArmKind], every: Sequence[Case], number: int, *, apart: bool) -> Iterator[tuple[ArmKind, Case]]:
    """Yield the runs of a round. Arms stand side by side on each case; `apart`, each arm has its cases in one go, to be started once."""
    ordered = list(arms) if number % 2 == 0 else list(arms)[::-1]
    pairs = [(kind, case) for case in every for kind in ordered]
    if apart:
        pairs = [(kind, case) for kind in ordered for case in sorted(every, key=lambda case: needs_adapters(kind, case.workload))]
    return (pair for pair in pairs if measures(pair[0], pair[1].workload))


class _Bench:
    """The rounds."""

    def __init__(self, plan: Plan, terms: Terms, language: Language, fleet: Fleet, progress: Progress) -> None:
        self._plan = plan
        self._sizes = plan.sizes
        self._terms = terms
        self._language = language
        self._fleet = fleet
        self._progress = progress
        self._record = Record()
        self._costs = _costs(plan.arms, terms)

    async def run(self) -> None:
        """Measure until the rounds or the time are over."""
        await self._fit()
        began = time.monotonic()
        runs = sum(1 for _ in schedule(self._plan.arms, cases(self._sizes), 0, apart=False))
        self._progress.total(runs * self._plan.rounds)
        for number in range(self._plan.rounds):
            round_began = time.monotonic()
            await self._round(number)
            now = time.monotonic()
            self._progress.tell(f"Round {number + 1} of {self._plan.rounds} took {now - round_began:.0f} s.")
            if self._plan.seconds is not None and 2 * now - round_began - began > self._plan.seconds:
                break

    async def _fit(self) -> None:
        """Where time is short, shorten the replies so that two rounds fit, by what one answer alone takes."""
        if self._plan.seconds is None:
            return
        took_s = 0.0
        for kind in self._plan.arms:
            samples = await self._try(kind, [trial("trial", self._sizes, self._language)], adapters=False)
            took_s += sum(sample.total_ms for sample in samples) / 1000
        needed = 2 * took_s * work_tokens(self._sizes) / self._sizes.reply_tokens
        self._sizes = shortened(self._sizes, self._plan.seconds / max(needed, 1e-6))

    async def _round(self, number: int) -> None:
        self._record.loads.append(load_average())
        threads = self._terms.engine.threads or usable_cores()
        self._record.bandwidths.append(await asyncio.to_thread(self._plan.bandwidth, threads))
        for kind, case in schedule(self._plan.arms, cases(self._sizes), number, apart=self._plan.apart):
            asked = conversations(case, self._sizes, self._language, f"round {number}")
            samples = await self._try(kind, asked, adapters=needs_adapters(kind, case.workload))
            if samples:
                self._take(kind, case, number, samples)
            self._progress.step()

    async def _try(self, kind: ArmKind, asked: Sequence[Conversation], *, adapters: bool) -> Sequence[Sample]:
        """Run an arm; one that has failed is not asked again."""
        if kind.name in self._record.failed:
            return ()
        try:
            return await self._fleet.run(kind, asked, adapters=adapters)
        except EngineUnavailable as error:
            self._record.failed[kind.name] = str(error)
            self._progress.tell(f"{kind.name} failed and is left out from here on: {error}")
            return ()

    def _take(self, kind: ArmKind, case: Case, number: int, samples: Sequence[Sample]) -> None:
        metrics = run_metrics(samples, self._plan.objective)
        metrics["roofline_share"] = self._roofline(kind, case, samples)
        texts = tuple(sample.text for sample in samples)
        self._record.runs.append(Run(case, kind.name, number, metrics, texts))
        self._progress.tell(f"{case.name}: {kind.name} {metrics['output_tokens_per_s']:.1f} tokens/s")

    def _roofline(self, kind: ArmKind, case: Case, samples: Sequence[Sample]) -> float | None:
        cost = self._costs.get(kind.name)
        bandwidth = self._bandwidth(kind)
        if cost is None or bandwidth is None or case.workload != SINGLE:
            return None
        running = min(case.users, self._terms.engine.slots) if kind.batches else 1
        return roofline_share(samples, cost, running, bandwidth)

    def _bandwidth(self, kind: ArmKind) -> float | None:
        """Return what memory can do where an arm computes; what a device can, an arm on torch has measured."""
        if kind.on_torch and has_cuda():
            return next((about["bandwidth_bytes_per_s"] for about in self._fleet.about.values() if "bandwidth_bytes_per_s" in about), None)
        return self._record.bandwidths[-1]

    def result(self, skipped: dict[str, str]) -> dict[str, Any]:
        """Return everything that was measured."""
        record, terms = self._record, self._terms
        if not record.runs:
            raise EngineUnavailable(f"Every arm failed: {'; '.join(f'{name}: {why}' for name, why in record.failed.items())}")
        return {
            "bench": "engine",
            "model": terms.files.reference if terms.files else "",
            "model_sha256": terms.files.sha256 if terms.files else "",
            "sizes": asdict(self._sizes),
            "slo": asdict(self._plan.objective),
            "slots": terms.engine.slots,
            "threads": terms.engine.threads or usable_cores(),
            "context_tokens": terms.engine.context_tokens,
            "cache_ram_mib": terms.engine.cache_ram_mib,
            "rounds": 1 + max(run.round for run in record.runs),
            "about": self._fleet.about,
            "peak_memory": self._fleet.memory,
            "skipped": skipped,
            "failed": record.failed,
            "cases": {case.name: case_summary(case, record.runs) for case in cases(self._sizes)},
            "copy_bandwidth_bytes_per_s": spread(record.bandwidths),
            "load_average": spread(record.loads),
            "versions": versions(),
            "hardware": hardware(),
        }


def _costs(arms: Sequence[ArmKind], terms: Terms) -> dict[str, ModelCost]:
    """Return what a step reads, for the arms of which it is known."""
    files = terms.files
    if files is None:
        return {}
    width = BFLOAT16_BYTES if has_cuda() else FLOAT32_BYTES
    on_torch = cache(lambda: torch_cost(files.path, width))  # either one reads the whole file, once for all arms
    on_llamacpp = cache(lambda: gguf_cost(files.path))

    def cost(kind: ArmKind) -> ModelCost:
        if not kind.on_torch:
            return on_llamacpp()
        as_int8 = kind.engine.get("weights") == "int8"
        return replace(on_torch(), weight_bytes=on_torch().weight_bytes // width) if as_int8 else on_torch()

    return {kind.name: cost(kind) for kind in arms if kind.on_torch or kind.needs == "gguf"}


def versions() -> dict[str, str]:
    """Return the versions that matter for a result, of what is installed."""
    return {"python": platform.python_version()} | {name: found for name in PACKAGES if (found := _version(name))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
