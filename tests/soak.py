"""`make soak MINUTES=30`: the real `kefu run` for a long time at half of what it can do; writes docs/soak.md and docs/soak.svg.

Three processes: the bot (scripted engine, polling, SQLite), a fake Telegram, and this one, which plays the people, looks at
the bot every few seconds, and in the end compares what was written with what is shown.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import psutil

from bot.channels.telegram.fake_client import FakeTelegramClient
from bot.channels.telegram.fake_server import TOKEN
from tests.soak_chart import draw
from tests.soak_report import Ledger, Result, report
from tests.soak_samples import WATCHED, Sample, course, metrics, take, warmed_up

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
KEFU = Path(sys.executable).with_name("kefu")

CHATS = (*range(1001, 1161), *range(-4040, -4000))  # so many that hardly anybody writes twice before the answer
CALIBRATION_S = 20.0
OUTSTANDING = 64  # messages without an answer while the capacity is measured
SAMPLE_S = 2.0
TICK_S = 0.05
WARM_UP_SHARE, WARM_UP_S = 0.2, 90.0  # histories fill to their limit, and pools and caches with them
SETTLE_S = 60.0


class Crowd:
    """Writes numbered messages in random chats."""

    def __init__(self, telegram: FakeTelegramClient, seed: int) -> None:
        self.telegram = telegram
        self.written = 0
        self._chance = random.Random(seed)

    def write(self) -> None:
        self.written += 1
        chat = self._chance.choice(CHATS)
        name = "" if chat > 0 else "@kefu_bot "
        self.telegram.say(f"{name}m{self.written}.", chat=chat, user=chat if chat > 0 else 2001 + self._chance.randrange(5))

    def answered(self) -> Counter[int]:
        """Return how often each message is answered on the screens."""
        texts = [shown.text for chat in CHATS for shown in self.telegram.screen(chat) if shown.is_bot]
        return Counter(int(number) for text in texts for number in re.findall(r"m(\d+)\.", text))


class Bot:
    """The program under test."""

    def __init__(self, process: "subprocess.Popen[bytes]", http: httpx2.Client, log: Path) -> None:
        self.process = process
        self.http = http
        self._log = log
        self._watched = psutil.Process(process.pid)

    def wait_until_ready(self) -> None:
        """Raises RuntimeError when it does not come up."""
        for _ in range(200):
            if self.process.poll() is not None:
                break
            try:
                if self.http.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the bot did not start:\n{self._log.read_text()[-2000:]}")

    def sample(self, at_s: float) -> Sample:
        return take(self._watched, self.http, at_s)

    def delivered(self) -> float:
        return metrics(self.http).get("kefu_deliveries_total telegram sent", 0.0)

    def pending(self) -> int:
        return round(metrics(self.http)["kefu_inbox_pending"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        if (code := self.process.wait(60)) != 0:
            raise RuntimeError(f"the bot ended with {code}:\n{self._log.read_text()[-2000:]}")

    def errors(self) -> int:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return sum(line.get("level") in {"error", "critical"} for line in lines)


def main() -> int:
    """Soak, write the report, return 0 if everything was flat and nothing lost or answered twice."""
    parser = argparse.ArgumentParser(description="The program for a long time at half load.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=37)
    parser.add_argument("--into", type=Path, default=DOCS, help="folder of soak.md and soak.svg")
    arguments = parser.parse_args()
    result = soak(arguments.minutes, arguments.seed)
    arguments.into.mkdir(parents=True, exist_ok=True)
    title = f"Kefu for {arguments.minutes:g} minutes at {result.rate:.1f} messages/s"
    (arguments.into / "soak.svg").write_text(draw(result.samples, title=title, warm_up_s=result.warm_up_s), encoding="utf-8")
    (arguments.into / "soak.md").write_text(report(result), encoding="utf-8")
    print(result.verdict)
    return 0 if result.is_flat and result.ledger.is_clean else 1


def soak(minutes: float, seed: int) -> Result:
    """Measure the capacity, then run at half of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kefu-soak-")))
        telegram = stack.enter_context(fake_telegram())
        bot = stack.enter_context(running_bot(folder, telegram.base_url))
        crowd = Crowd(telegram, seed)
        capacity = measure(crowd, bot)
        note(f"capacity {capacity:.1f} answers/s; now {capacity / 2:.1f} messages/s for {minutes:g} minutes")
        samples = load(crowd, bot, capacity / 2, minutes * 60)
        settle(crowd, bot)
        bot.stop()
        answered = crowd.answered()
        ledger = Ledger(
            messages=crowd.written,
            lost=sum(answered[number] == 0 for number in range(1, crowd.written + 1)),
            twice=sum(count > 1 for count in answered.values()),
            errors=bot.errors(),
        )
    warm = warmed_up(samples, share=WARM_UP_SHARE, least_s=min(WARM_UP_S, minutes * 30))
    courses = [course(name, warm) for name in WATCHED]
    return Result(minutes, len(CHATS), capacity, capacity / 2, samples, warm[0].at_s, courses, ledger)


@contextmanager
def fake_telegram() -> Iterator[FakeTelegramClient]:
    """Give the people's side of a fake Telegram in a process of its own."""
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--no-limits", "--transcript", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("the fake Telegram says nothing")
            with FakeTelegramClient(server.stdout.readline().strip()) as client:
                yield client
        finally:
            server.terminate()


@contextmanager
def running_bot(folder: Path, base_url: str) -> Iterator[Bot]:
    """Give the bot, ready; it is killed if nobody has stopped it."""
    port = free_port()
    variables = {
        "HOME": str(folder),
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "KEFU_TELEGRAM__BASE_URL": base_url,
        "KEFU_TELEGRAM__CHAT_PER_S": "0",
        "KEFU_TELEGRAM__GROUP_PER_MIN": "0",
        "KEFU_TELEGRAM__OVERALL_PER_S": "0",
        "KEFU_ACCESS__MESSAGES_PER_MINUTE": "0",
        "KEFU_ENGINE__KIND": "scripted",
        "KEFU_DIALOGUE__HISTORY_TOKENS": "256",  # so that histories are full when the warm-up ends
        "KEFU_HTTP__PORT": str(port),
        "KEFU_PATHS__DATA_DIR": str(folder / "data"),
        "KEFU_PATHS__CACHE_DIR": str(folder / "cache"),
    }
    log = folder / "log"
    with log.open("wb") as errors:
        command = [str(KEFU), "run", "--log-json", "--log-level", "warning"]
        process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **variables}, cwd=folder, stderr=errors)
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
                bot = Bot(process, http, log)
                bot.wait_until_ready()
                yield bot
        finally:
            process.kill()
            process.wait()


def measure(crowd: Crowd, bot: Bot) -> float:
    """Return how many answers a second the bot gives when many people wait all the time."""
    began = time.monotonic()
    counted_from, counted_at = 0.0, began
    while (now := time.monotonic()) < began + CALIBRATION_S:
        delivered = bot.delivered()
        if now < began + CALIBRATION_S / 4:
            counted_from, counted_at = delivered, now
        for _ in range(max(0, OUTSTANDING - bot.pending() - crowd.telegram.pending())):
            crowd.write()
        time.sleep(TICK_S)
    return (bot.delivered() - counted_from) / (time.monotonic() - counted_at)


def load(crowd: Crowd, bot: Bot, rate: float, seconds: float) -> list[Sample]:
    """Write so many messages a second and sample."""
    samples: list[Sample] = []
    began, before = time.monotonic(), crowd.written
    next_sample_s = 0.0
    while (elapsed := time.monotonic() - began) < seconds:
        for _ in range(int(elapsed * rate) - (crowd.written - before)):
            crowd.write()
        if elapsed >= next_sample_s:
            samples.append(bot.sample(elapsed))
            next_sample_s += SAMPLE_S
            if len(samples) % 150 == 0:
                note(f"{elapsed / 60:.0f} min: {samples[-1]}")
        time.sleep(TICK_S)
    return samples


def settle(crowd: Crowd, bot: Bot) -> None:
    """Wait until nothing is under way."""
    ends = time.monotonic() + SETTLE_S
    while time.monotonic() < ends:
        sample = bot.sample(0.0)
        if not (crowd.telegram.pending() or sample.pending or sample.unsent or sample.unknown):
            return
        time.sleep(0.5)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
