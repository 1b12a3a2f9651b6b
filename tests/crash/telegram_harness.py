"""Starts, feeds and kills the program with its Telegram channel, and says what the people saw in the end.

The fake Telegram runs in a process of its own and outlives the kills.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bot.channels.telegram.fake_chats import Call
from bot.channels.telegram.fake_client import FakeTelegramClient
from bot.channels.telegram.reply_stream import PLACEHOLDER
from tests.crash.telegram_child import Plan
from tests.crash.telegram_points import POINTS
from tests.crash.telegram_steps import STEPS, Tables, counted_orphans, has_contact, read_tables, steps_of
from tests.crash.test_app_crash import ANSWER, Verdict

PRIVATE, GROUPS = (1001, 1002, 1003), (-4001, -4002, -4003)
CHATS = PRIVATE + GROUPS
FAULTS = ("lost=0.02", "late=0.01:0.2", "error=0.01", "truncated=0.005")  # of each call of the bot
REMEMBERED = 600  # calls; more than one run makes
STUCK_S = 60.0  # how long the last run may get nothing done of what is left, on however busy a machine
REACHED_S = 3.0  # how long a run gets to reach the edge at which it dies


@dataclass(frozen=True)
class Findings:
    """What came of an arm."""

    verdict: Verdict
    steps: Counter[str]  # how many kills fell into each
    unlisted: int  # orphan placeholders that no row of the outbox owns up to
    odd: tuple[tuple[str, ...], ...]  # what stood in each message that shows no whole answer now

    def __str__(self) -> str:
        fell = ", ".join(f"{step} {self.steps[step]}" for step in STEPS if self.steps[step])
        return f"{self.verdict}; {self.unlisted} not listed; kills fell in: {fell}{self._oddities()}"

    def _oddities(self) -> str:
        return f"; odd: {self.odd}" if self.odd else ""

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and not self.unlisted


class Forker:
    """The parent of all runs."""

    def __init__(self, log: Path) -> None:
        self.log = log.open("w")
        command = [sys.executable, "-m", "tests.crash.telegram_child"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1)
        self.log_path = log

    def start(self, plan: Plan) -> int:
        """Begin a run and return its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(plan.to_json() + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Wait for the end of the run and return its exit code."""
        return int(self._line())

    def close(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.log.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def forking(folder: Path) -> Iterator[Forker]:
    """Give the process that forks runs."""
    forker = Forker(folder / "log")
    try:
        yield forker
    finally:
        forker.close()


@contextmanager
def fake_telegram(seed: int, faults: tuple[str, ...]) -> Iterator[FakeTelegramClient]:
    """Give the people's side of a fake Telegram in a process of its own."""
    options = ["--seed", str(seed), "--pace", "0.03", "--no-limits", "--transcript", str(REMEMBERED)]
    options += [word for fault in faults for word in ("--fault", fault)]
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            with FakeTelegramClient(server.stdout.readline().strip()) as client:
                yield client
        finally:
            server.terminate()


class Harness:
    """One arm: a plan, a fake Telegram, a process that forks the runs."""

    def __init__(
        self, plan: Plan, telegram: FakeTelegramClient, forker: Forker, *, seed: int, burst: int = 1, chats: Sequence[int] = CHATS
    ) -> None:
        self.plan = replace(plan, base_url=telegram.base_url)
        self.url = plan.database_url or f"sqlite:///{plan.folder}/data/kefu.db"
        self.messages: dict[int, int] = {}  # number → chat
        self.steps: Counter[str] = Counter()
        self.kills = 0
        self._telegram = telegram
        self._forker = forker
        self._burst = burst
        self._chats = chats
        self._chance = random.Random(seed)

    def kill_at_random(self) -> None:
        """Let people write at random moments of a run that ends at a random moment."""
        began = time.monotonic()
        run = self._forker.start(self.plan)
        ends = began + self._chance.uniform(0.05, 1.4)
        while time.monotonic() < ends:
            self.write()
            time.sleep(self._chance.uniform(0.01, 0.15))
        os.kill(run, signal.SIGKILL)
        self._note_kill(self._forker.end(), began)

    def kill_at(self, point: str, count: int = 1) -> bool:
        """Let people write in every kind of chat to a run that dies at an edge; return whether it got there in time."""
        began = time.monotonic()
        run = self._forker.start(replace(self.plan, kill_at=point, kill_count=count))
        self.write(PRIVATE)
        self.write(GROUPS)
        impatience = threading.Timer(REACHED_S, os.kill, (run, signal.SIGKILL))
        impatience.start()
        code = self._forker.end()
        impatience.cancel()
        self._note_kill(code, began)
        return time.monotonic() - began < REACHED_S

    def kill_anywhere(self, kills: int) -> None:
        """Kill so often: half of the times at a random moment, half at a random edge, some of which last microseconds only."""
        for number in range(kills):
            if number % 2:
                self.kill_at(self._chance.choice(list(POINTS)), self._chance.choice((1, 1, 2)))
            else:
                self.kill_at_random()

    def write(self, chats: Sequence[int] = ()) -> None:
        """A person writes, with bursts several messages in a row."""
        chat = self._chance.choice(chats or self._chats)
        for _ in range(self._chance.randint(1, self._burst)):
            self.say(chat)

    def say(self, chat: int) -> None:
        """Somebody in this chat writes the next message."""
        number = len(self.messages) + 1
        self.messages[number] = chat
        self._telegram.say(f"m{number}.", chat=chat, user=chat if chat > 0 else 2000 - chat)

    def finish(self) -> Findings:
        """Let a last run answer what is left, end it properly, and compare what was written with what is shown."""
        began = moved = time.monotonic()
        run = self._forker.start(self.plan)
        left, before = self._left(), -1
        while time.monotonic() < moved + STUCK_S and (left or not has_contact(self._calls(began))):
            if left != before:
                moved, before = time.monotonic(), left
            time.sleep(0.1)
            left = self._left()
        os.kill(run, signal.SIGTERM)
        assert self._forker.end() == 0, self.log()
        self._telegram.settle()
        return self.findings()

    def log(self) -> str:
        """Return the end of what the runs have logged."""
        return self._forker.log_path.read_text()[-4000:]

    def tables(self) -> Tables:
        """Return what the database holds now."""
        return read_tables(self.url)

    def _left(self) -> int:
        """Return how much is still to do: updates to fetch, messages to answer, answers to deliver."""
        tables = self.tables()
        return self._telegram.pending() + len(tables.waiting) + len(tables.rows)

    def _note_kill(self, code: int, began: float) -> None:
        assert code == -signal.SIGKILL, f"the run ended with {code}\n{self.log()}"
        self.kills += 1
        self.steps.update(steps_of(self.tables(), self._calls(began), said=len(self.messages), pending=self._telegram.pending()))

    def _calls(self, began: float) -> list[Call]:
        return [call for call in self._telegram.transcript() if call.at >= began]

    def findings(self) -> Findings:
        """Compare what was written with what is shown."""
        listed = counted_orphans(self.url)
        answered: dict[int, list[int]] = {}
        odd: list[tuple[str, ...]] = []
        orphans = unlisted = 0
        for chat in self._chats:
            shown = [one for one in self._telegram.screen(chat) if one.is_bot] if chat in self.messages.values() else []
            empty = sum(one.text == PLACEHOLDER for one in shown)
            answers = [one.text for one in shown if ANSWER.fullmatch(one.text)]
            odd += [one.texts for one in shown if one.text != PLACEHOLDER and one.text not in answers]
            orphans += empty
            unlisted += max(0, empty - listed.get(chat, 0))
            answered[chat] = [int(number) for text in answers for number in re.findall(r"m(\d+)\.", text)]
        return Findings(self._verdict(answered, len(odd), orphans), self.steps, unlisted, tuple(odd))

    def _verdict(self, answered: dict[int, list[int]], broken: int, orphans: int) -> Verdict:
        seen = [number for numbers in answered.values() for number in numbers]
        return Verdict(
            kills=self.kills,
            messages=len(self.messages),
            lost=len(set(self.messages) - set(seen)),
            twice=len(seen) - len(set(seen)),
            disordered=sum(list(dict.fromkeys(numbers)) != sorted(set(numbers)) for numbers in answered.values()),
            broken=broken,
            orphans=orphans,
        )


def free_port() -> int:
    """Return a port that nobody uses, for a webhook that comes back to the same address after each kill."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
