"""Several workers on one PostgreSQL and one fake Telegram: fed in many conversations at once, killed and stalled in turn.

A worker is the program of `telegram_child`, each forked by a process of its own. A kill is SIGKILL and a new start; a stall is SIGSTOP
for longer than a lease and then SIGCONT, so that a worker wakes up and goes on with what others have done meanwhile.
"""

import math
import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from bot.channels.telegram.fake_client import FakeTelegramClient
from tests.crash.telegram_child import Plan
from tests.crash.telegram_harness import STUCK_S, Findings, Forker, Harness, forking

LEASE_S, POLL_LEASE_S, STALL_S = 2.0, 3.0, 3.0
FIRST_CHAT = 1001
LOOK_S = 0.05

_LEFT = b"""SELECT (SELECT count(*) FROM inbox WHERE state IN ('new', 'claimed'))
+ (SELECT count(*) FROM outbox WHERE state <> 'sent' AND state IN ('reserved', 'ready', 'started', 'unknown'))"""
_AT_WORK = b"SELECT count(*) FROM inbox WHERE state = 'claimed'"
_UNANSWERED = b"SELECT count(*) FROM inbox WHERE state IN ('new', 'claimed')"
_TAKEOVERS = b"SELECT coalesce(max(poll_epoch), 1) - 1 FROM channel_offsets"


@dataclass
class Worker:
    """One process of the fleet."""

    forker: Forker
    plan: Plan
    run: int = 0  # its process id
    stalled_until: float = 0.0  # 0 = it is not
    _log_began: int = 0

    def start(self) -> None:
        self._log_began = self.forker.log_path.stat().st_size
        self.run = self.forker.start(self.plan)

    def is_ready(self) -> bool:
        """Whether this run has begun to answer."""
        with self.forker.log_path.open() as log:
            log.seek(self._log_began)
            return "app.ready" in log.read()

    def kill(self) -> None:
        assert self.end(signal.SIGKILL) == -signal.SIGKILL, self.log()

    def end(self, how: signal.Signals) -> int:
        """Send the signal, wait for the end of the run and return its exit code. A stalled run is woken: asleep it would not hear."""
        self.wake()
        with suppress(ProcessLookupError):
            os.kill(self.run, how)
        self.run = 0
        return self.forker.end()

    def stall(self, seconds: float = STALL_S) -> None:
        os.kill(self.run, signal.SIGSTOP)
        self.stalled_until = time.monotonic() + seconds

    def wake(self) -> None:
        if self.stalled_until:
            os.kill(self.run, signal.SIGCONT)
            self.stalled_until = 0.0

    def log(self) -> str:
        return self.forker.log_path.read_text()[-4000:]


@contextmanager
def forkers(folder: Path, count: int) -> Iterator[list[Forker]]:
    """Give so many processes that fork workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(forking(_made(folder / f"forker{number}"))) for number in range(count)]


class Fleet:
    """Workers, and the people who write to them."""

    def __init__(self, plan: Plan, telegram: FakeTelegramClient, parents: Sequence[Forker], *, conversations: int, seed: int) -> None:
        self.chats = range(FIRST_CHAT, FIRST_CHAT + conversations)
        self.harness = Harness(plan, telegram, parents[0], seed=seed, chats=self.chats)
        base = replace(self.harness.plan, lease_s=LEASE_S, poll_lease_s=POLL_LEASE_S)
        folders = [_made(Path(plan.folder) / f"worker{number}") for number in range(len(parents))]
        self.workers = [Worker(parent, replace(base, folder=str(folder))) for parent, folder in zip(parents, folders, strict=True)]
        self.stalls = 0
        self._telegram = telegram
        self._database = psycopg.connect(plan.database_url, autocommit=True)
        self._chance = random.Random(seed)

    def __enter__(self) -> "Fleet":
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.run:  # the test has failed
                worker.end(signal.SIGKILL)
        self._database.close()

    def wait_until_ready(self) -> None:
        """Wait until all workers answer."""
        self._wait(lambda: all(worker.is_ready() for worker in self.workers))

    def converse(self, messages: int, harms: int) -> None:
        """Let everybody write `messages` messages, hardly waiting for answers; do `harms` at random moments, to one worker after the other.

        Of three harms two are kills and one is a stall.
        """
        total = messages * len(self.chats)
        moments = deque(sorted(self._chance.sample(range(1, total), min(harms, total - 1))))
        for _ in range(messages):
            for chat in self._chance.sample(self.chats, len(self.chats)):
                self.harness.say(chat)
                if moments and len(self.harness.messages) >= moments[0]:
                    moments.popleft()
                    self._harm(self.harness.kills + self.stalls)
                self._wake_in_time()
            self._wait(lambda: self._left() <= len(self.chats) // 2)

    def say_once(self) -> float:
        """Let everybody write one message; return after how many seconds all were answered."""
        began = time.monotonic()
        for chat in self.chats:
            self.harness.say(chat)
        self._wait(lambda: not self._left())
        return time.monotonic() - began

    def oversleep(self) -> None:
        """Let everybody write, and a worker sleep while somebody is at work, until all is answered by the others; each worker in its turn.

        One of them polls, and therefore has the work: when it wakes up, another has done it.
        """
        for worker in self.workers:
            for chat in self.chats:
                self.harness.say(chat)
            self._wait(lambda: self._number(_AT_WORK) > 0)
            worker.stall(math.inf)
            self.stalls += 1
            self._wait(lambda: self._number(_UNANSWERED) == 0)
            worker.wake()

    def finish(self) -> Findings:
        """Let the workers answer what is left, end them properly, and compare what was written with what is shown."""
        self._wait(lambda: not self._left() and all(worker.is_ready() for worker in self.workers))
        for worker in self.workers:
            assert worker.end(signal.SIGTERM) == 0, worker.log()
        self._telegram.settle()
        return self.harness.findings()

    def poll_takeovers(self) -> int:
        """Return how often another process has taken over the right to poll."""
        return self._number(_TAKEOVERS)

    def _harm(self, number: int) -> None:
        worker = self.workers[number % len(self.workers)]
        if number % 3 == 2:
            self.stalls += 1
            worker.wake()
            worker.stall()
        else:
            self.harness.kills += 1
            worker.kill()
            worker.start()

    def _wake_in_time(self) -> None:
        for worker in self.workers:
            if worker.stalled_until and time.monotonic() >= worker.stalled_until:
                worker.wake()

    def _left(self) -> int:
        return self._telegram.pending() + self._number(_LEFT)

    def _number(self, statement: bytes) -> int:
        row = self._database.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def _wait(self, until: Callable[[], bool]) -> None:
        """Wait while anything moves. Fails when nothing does for a long time."""
        moved, before = time.monotonic(), -1
        while not until():
            self._wake_in_time()
            left = self._left()
            if left != before:
                moved, before = time.monotonic(), left
            assert time.monotonic() < moved + STUCK_S, f"stuck with {left} left\n" + "\n".join(worker.log() for worker in self.workers)
            time.sleep(LOOK_S)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
