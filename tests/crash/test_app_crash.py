"""The real program, killed with -9 at random points: nothing is lost, nothing is answered twice, the order holds."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bot.channels.fake_platform import PLACEHOLDER
from storage.config import StorageConfig
from storage.database import open_database
from storage.records import InboxState, OutboxState
from tests.crash.app_child import Plan
from tests.crash.journal import JournalPlatform
from tests.sizes import record_proof, size

CHATS = 6
ANSWER = re.compile(r"You said: (m\d+\.)(\nm\d+\.)*")
WAITING = (InboxState.NEW, InboxState.CLAIMED, InboxState.QUARANTINED)
UNSENT = tuple(state for state in OutboxState if state is not OutboxState.SENT)
SETTLED_S = 60.0  # how long the last run gets to answer what is left


@dataclass(frozen=True)
class Verdict:
    """What the people saw in the end."""

    kills: int
    messages: int
    lost: int  # messages without an answer
    twice: int  # answers to a message beyond the first
    disordered: int  # chats in which answers do not follow the messages
    broken: int  # texts that are no whole answer
    orphans: int  # placeholders without words

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.messages} messages: {self.lost} lost, {self.twice} answered twice, "
            f"{self.disordered} out of order, {self.broken} broken, {self.orphans} orphan placeholders"
        )

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.twice or self.disordered or self.broken)


class Harness:
    """Starts, feeds and kills the program."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.people = JournalPlatform(Path(plan.folder) / "platform.jsonl")
        self.people.path.touch()
        self.messages: dict[int, str] = {}  # number → chat
        self._chance = random.Random(plan.seed)

    @contextmanager
    def program(self) -> Iterator["subprocess.Popen[str]"]:
        """Give the process that forks runs; its log is beside the database."""
        with (Path(self.plan.folder) / "log").open("w") as log:
            command = [sys.executable, "-m", "tests.crash.app_child", self.plan.to_json()]
            forker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1)
            with forker:
                try:
                    yield forker
                finally:
                    assert forker.stdin is not None
                    forker.stdin.close()

    def start(self, forker: "subprocess.Popen[str]") -> int:
        """Begin a run and return its process id."""
        assert forker.stdin is not None
        assert forker.stdout is not None
        forker.stdin.write("run\n")
        forker.stdin.flush()
        return int(forker.stdout.readline())

    def end(self, forker: "subprocess.Popen[str]") -> int:
        """Wait for the end of the run and return its exit code."""
        assert forker.stdout is not None
        return int(forker.stdout.readline())

    def run_and_kill(self, forker: "subprocess.Popen[str]") -> None:
        """Let people write at random moments of a run that ends at a random moment."""
        run = self.start(forker)
        ends = time.monotonic() + self._chance.uniform(0.05, 0.6)
        while time.monotonic() < ends:
            self.write(self._chance.randint(1, 3))
            time.sleep(self._chance.uniform(0.01, 0.12))
        os.kill(run, signal.SIGKILL)
        assert self.end(forker) == -signal.SIGKILL

    def write(self, count: int) -> None:
        """A person writes so many messages in a row."""
        chat = f"chat{self._chance.randrange(CHATS)}"
        for _ in range(count):
            number = len(self.messages) + 1
            self.messages[number] = chat
            self.people.say(number, chat, f"m{number}.")

    def finish(self, forker: "subprocess.Popen[str]") -> None:
        """Let a last run answer what is left, and end it properly."""
        run = self.start(forker)
        patience = time.monotonic() + SETTLED_S
        quiet_since, size_then = time.monotonic(), -1
        while time.monotonic() < patience and (self.verdict(0).lost or time.monotonic() - quiet_since < 1.5):
            time.sleep(0.05)
            size_now = self.people.path.stat().st_size
            if size_now != size_then:
                quiet_since, size_then = time.monotonic(), size_now
            elif time.monotonic() - quiet_since > 4.0:
                break  # nothing moves any more: what is missing now is lost
        os.kill(run, signal.SIGTERM)
        assert self.end(forker) == 0, (Path(self.plan.folder) / "log").read_text()[-2000:]

    def verdict(self, kills: int) -> Verdict:
        """Compare what was written with what is shown."""
        self.people.look()
        answered: dict[str, list[int]] = {}
        broken = orphans = 0
        for message in self.people.messages.values():
            if message.text == PLACEHOLDER:
                orphans += 1
            elif ANSWER.fullmatch(message.text) is None:
                broken += 1
            else:
                answered.setdefault(message.chat, []).extend(int(number) for number in re.findall(r"m(\d+)\.", message.text))
        seen = [number for numbers in answered.values() for number in numbers]
        return Verdict(
            kills=kills,
            messages=len(self.messages),
            lost=len(set(self.messages) - set(seen)),
            twice=len(seen) - len(set(seen)),
            disordered=sum(_first_seen(numbers) != sorted(set(numbers)) for numbers in answered.values()),
            broken=broken,
            orphans=orphans,
        )


def _first_seen(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def left_behind(config: StorageConfig) -> str:
    """Return what the database says about everything that did not end well."""
    database = await open_database(config)
    try:
        items = [item for state in WAITING for item in await database.read(lambda unit, s=state: unit.inbox.list(s))]
        rows = [row for state in UNSENT for row in await database.read(lambda unit, s=state: unit.outbox.list(s))]
    finally:
        await database.close()
    return "\n".join(map(str, [*items, *rows]))


def crash(plan: Plan, kills: int) -> Verdict:
    """Kill the program so often, then let it finish, and return what the people saw."""
    harness = Harness(plan)
    with harness.program() as forker:
        for _ in range(kills):
            harness.run_and_kill(forker)
        harness.finish(forker)
    return harness.verdict(kills)


@pytest.mark.timeout(1800)
def test_kill_9_loses_nothing_and_repeats_nothing(storage_config: StorageConfig, dialect: str, tmp_path: Path) -> None:
    """Killed at random points under load and with lost responses: 0 lost, 0 answered twice, order kept, on both databases."""
    kills, seed = size("app_crash", small=10, proof=200), 11
    verdict = crash(Plan(str(tmp_path), storage_config.url, lost=0.02, seed=seed), kills)
    record_proof(f"kill -9 of the app, {dialect}", seed=seed, size=kills, result=str(verdict))
    assert verdict.is_clean, f"{verdict}\n{asyncio.run(left_behind(storage_config))}"
    assert verdict.messages > kills


def test_a_platform_without_edits_shows_nothing_twice(tmp_path: Path) -> None:
    """Where nothing can be repeated safely, a kill costs at most a visible row of unknown state, never a second answer."""
    verdict = crash(Plan(str(tmp_path), editing=False, seed=3), 4)
    assert (verdict.twice, verdict.disordered, verdict.broken) == (0, 0, 0)
    assert verdict.lost < verdict.messages / 2


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        (Plan("", fault="ack_first", seed=1), "lost"),
        (Plan("", fault="blind_resend", editing=False, lost=0.2, seed=2), "twice"),
        (Plan("", fault="no_fence", editing=False, seed=3), "twice"),
    ],
    ids=lambda value: value.fault if isinstance(value, Plan) else value,
)
def test_the_harness_finds_planted_faults(plan: Plan, found: str, tmp_path: Path) -> None:
    """Acknowledging before commit loses messages, a blind resend and a missing fence answer twice: the proof above can fail."""
    verdict = crash(replace(plan, folder=str(tmp_path)), size("app_crash_planted", small=5, proof=20))
    assert getattr(verdict, found) > 0, str(verdict)
