"""The report of a soak."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from dialogue.engine.bench.machine import hardware
from tests.soak_samples import Course, Sample

PACKAGES = ("kefu", "python-telegram-bot", "sqlalchemy", "aiosqlite", "uvicorn")

TEMPLATE = """# Soak

**{result.verdict}.** {today}, `make soak MINUTES={result.minutes:g}`.

`kefu run` (scripted engine, long polling, SQLite) answers {result.chats} chats of a fake Telegram in another process at half of the
load that it can carry: {result.capacity:.1f} answers/s measured, {result.rate:.1f} messages/s sent.

![Memory, handles, threads, tasks, connections and queues over time](soak.svg)

After a warm-up of {warm_up} minutes, in which histories grow to their limit:

| | least | median | most | slope per hour | growth | flat |
|---|---|---|---|---|---|---|
{rows}

Slope is Theil-Sen's: the median slope of all pairs of samples, which no single peak can turn. Growth compares the last quarter with
the first: the medians of memory, the lowest tenths of the counts, because turns under way come and go with what else the machine does,
and what leaks never goes. Memory is flat if its slope is below 1 MB/h, or if it grew by less than 1 MB: a short run cannot tell 1 MB/h
from the noise of the allocator. The counts are flat if they have not grown by more than 2.

In the last sample: inbox {last.pending:g}, outbox {last.unsent:g} on their way, {last.unknown:g} unknown, {last.failed:g} failed.

- hardware: {hardware}
- versions: {versions}
"""


@dataclass(frozen=True)
class Ledger:
    """What became of the messages."""

    messages: int
    lost: int
    twice: int
    errors: int  # records of the bot's log at error or above

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.errors)


@dataclass(frozen=True)
class Result:
    """Everything that a soak found."""

    minutes: float
    chats: int
    capacity: float  # answers a second
    rate: float  # messages a second
    samples: Sequence[Sample]
    warm_up_s: float
    courses: Sequence[Course]
    ledger: Ledger

    @property
    def is_flat(self) -> bool:
        return all(one.is_flat for one in self.courses)

    @property
    def verdict(self) -> str:
        state = "flat" if self.is_flat else "not flat: " + ", ".join(one.name for one in self.courses if not one.is_flat)
        ledger = self.ledger
        return f"{state}; {ledger.messages} messages: {ledger.lost} lost, {ledger.twice} answered twice, {ledger.errors} errors logged"


def report(result: Result) -> str:
    """Return docs/soak.md."""
    return TEMPLATE.format(
        result=result,
        last=result.samples[-1],
        today=f"{datetime.now(UTC):%Y-%m-%d}",
        warm_up=f"{result.warm_up_s / 60:.1f}",
        rows="\n".join(map(_row, result.courses)),
        hardware="{cpu}, {cores} cores, {memory_gib} GiB, {system}".format(**hardware()),
        versions=", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]),
    )


def _row(one: Course) -> str:
    values = f"{one.least:.1f} | {one.middle:.1f} | {one.most:.1f} | {one.slope_per_h:+.2f} | {one.growth:+.1f}"
    return f"| {one.name} | {values} | {'yes' if one.is_flat else 'no'} |"
