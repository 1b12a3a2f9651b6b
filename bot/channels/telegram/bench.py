"""`kefu bench bot`: the whole way of a Telegram message, beside python-telegram-bot's own Application, in one run.

Every arm is a process of its own, and so is the fake server, without limits. In each round each arm gets the same load, in an
order that changes from round to round. Throughput: so many messages at once, one in each chat. Latency: arrivals by chance at half
of what the arm has just managed. CPU is that of the arm's process during the throughput run.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.channels.telegram.fake_client import FakeTelegramClient
from bot.channels.telegram.fake_server import TOKEN

Report = Callable[[str], None]
Command = Callable[[str, str, Path], Sequence[str]]  # (URL of the server, token, own folder) → how an arm is started

OURS: Final = "kefu"
WARM_UP: Final = 100  # messages
PATIENCE_S: Final = 120.0
START_S: Final = 30.0
LOOK_S: Final = 0.2
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class BotSize:
    """How long the bench takes."""

    rounds: int = 5
    messages: int = 2000  # of a throughput run
    seconds: float = 8.0  # of a latency run


QUICK: Final = BotSize(rounds=2, messages=400, seconds=4.0)
FULL: Final = BotSize()


@dataclass(frozen=True, slots=True)
class BotRound:
    """What one arm managed in one round."""

    updates_per_s: float
    cpu_us: float  # of the arm's process, for each update
    first_ms: Mapping[str, float]  # from the message to the first sign of an answer, at half of the throughput
    final_ms: Mapping[str, float]  # … to the answer


class Bench:
    """A running arm and the server it talks to."""

    def __init__(self, telegram: FakeTelegramClient, process: "subprocess.Popen[bytes]") -> None:
        self.telegram = telegram
        self.process = process
        self._chats = 10_000

    def load(self, *, patience_s: float = PATIENCE_S, chats: int = 0, window_s: float = 0.0, **load: Any) -> dict[str, Any]:
        """Put a load on the arm and return what came of it; fresh chats, if none are named. Raises RuntimeError if the arm ends."""
        if not chats:
            chats = int(load["count"])
            self._chats += chats
            load["first_chat"] = self._chats
        self.telegram.call("load_begin", chats=chats, **load)
        ends = time.monotonic() + patience_s
        while not self.telegram.call("load_done") and time.monotonic() < ends:
            if self.process.poll() is not None:
                raise RuntimeError(f"the arm ended with code {self.process.returncode}")
            time.sleep(LOOK_S)
        return dict(self.telegram.call("load_result", window_s=window_s))

    def cpu_s(self) -> float:
        """Return the processor time of the arm so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mib(self) -> float:
        """Return the memory of the arm."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def bench_arm(command: Command, *, seed: int = 0) -> Iterator[Bench]:
    """Start a server and an arm; end both."""
    with tempfile.TemporaryDirectory(prefix="kefu-bench-") as folder, _server(seed) as url, FakeTelegramClient(url) as telegram:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(command(url, TOKEN, Path(folder)), stdout=out, stderr=out)  # noqa: S603 - our own commands
            try:
                bench = Bench(telegram, process)
                _warm_up(bench, log)
                yield bench
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def _server(seed: int) -> Iterator[str]:
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--no-limits", "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            yield (server.stdout.readline() if server.stdout else "").strip()
        finally:
            server.terminate()


def _warm_up(bench: Bench, log: Path) -> None:
    result = bench.load(count=WARM_UP, patience_s=START_S)
    if result["answered"] != WARM_UP:
        raise RuntimeError(
            f"the arm answered {result['answered']} of {WARM_UP} messages; its log ends:\n{log.read_text('utf-8', 'replace')[-2000:]}"
        )


def run_round(command: Command, size: BotSize, seed: int) -> BotRound:
    """Measure one arm once."""
    with bench_arm(command, seed=seed) as bench:
        before = bench.cpu_s()
        all_at_once = bench.load(count=size.messages)
        cpu_s = bench.cpu_s() - before
        _check(all_at_once)
        throughput = size.messages / all_at_once["seconds"]
        half = throughput / 2
        at_half = bench.load(count=max(20, int(half * size.seconds)), rate=half, seed=seed)
        _check(at_half)
    return BotRound(throughput, 1e6 * cpu_s / size.messages, at_half["first_ms"], at_half["final_ms"])


def _check(result: Mapping[str, Any]) -> None:
    if result["answered"] != result["written"]:
        raise RuntimeError(f"{result['written'] - result['answered']} of {result['written']} messages were not answered")


def run_bench(arms: Mapping[str, Command], size: BotSize, seed: int, report: Report) -> dict[str, Any]:
    """Measure the arms in turn and return medians and spreads. Raises RuntimeError when one of them fails."""
    rounds: dict[str, list[BotRound]] = {name: [] for name in arms}
    for number in range(size.rounds):
        for name in list(arms) if number % 2 == 0 else list(arms)[::-1]:
            rounds[name].append(run_round(arms[name], size, seed + number))
        said = ", ".join(f"{name} {taken[-1].updates_per_s:.0f}" for name, taken in rounds.items())
        report(f"round {number + 1} of {size.rounds}, updates/s: {said}")
    return {name: summary(taken, rounds[OURS]) for name, taken in rounds.items()}


def summary(taken: Sequence[BotRound], ours: Sequence[BotRound]) -> dict[str, Any]:
    """Return the medians and spreads of one arm, and how much more our own managed in the same rounds."""
    return {
        "updates_per_s": spread([one.updates_per_s for one in taken]),
        "kefu_over_this": spread([mine.updates_per_s / one.updates_per_s for one, mine in zip(taken, ours, strict=True)]),
        "cpu_us_per_update": spread([one.cpu_us for one in taken]),
        "first_p50_ms": spread([one.first_ms["p50"] for one in taken]),
        "first_p99_ms": spread([one.first_ms["p99"] for one in taken]),
        "final_p50_ms": spread([one.final_ms["p50"] for one in taken]),
        "final_p99_ms": spread([one.final_ms["p99"] for one in taken]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and most."""
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def library_arm(mode: str) -> Command:
    """Return how an arm on python-telegram-bot's Application is started."""
    return lambda url, token, _folder: [sys.executable, "-m", "bot.channels.telegram.bench_library", mode, url, token]


def own_arm(**plan: Any) -> Command:
    """Return how our own program is started; `plan` are fields of `bot.cli.bench_bot_arm.Plan`."""
    return lambda url, token, folder: [
        sys.executable,
        "-m",
        "bot.cli.bench_bot_arm",
        json.dumps({"folder": str(folder), "base_url": url, "token": token, **plan}),
    ]
