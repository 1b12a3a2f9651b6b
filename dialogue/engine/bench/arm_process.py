"""The bench's side of an arm's process: started, asked run by run, killed in the end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from dialogue.engine.bench.samples import Sample
from dialogue.engine.bench.settings import CONVERSATIONS, SAMPLES, SETTINGS, ArmSettings
from dialogue.engine.bench.workload import Conversation
from dialogue.errors import EngineUnavailable

MAX_LINE_BYTES = 1 << 28


class ArmProcess:
    """An arm that is ready."""

    def __init__(self, child: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self._child = child
        self._log = log
        self.about: dict[str, Any] = {}  # what the arm says of itself
        self.memory: dict[str, float] = {}  # its peaks after the last run, in MiB

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    async def start(self, settings: ArmSettings) -> None:
        """Wait until the arm is ready. Raises EngineUnavailable with the reason."""
        self.about = (await self._ask(SETTINGS.dump_json(settings)))["about"]

    async def run(self, conversations: Sequence[Conversation]) -> tuple[Sample, ...]:
        """Let the arm hold these conversations. Raises EngineUnavailable with the reason."""
        answer = await self._ask(CONVERSATIONS.dump_json(tuple(conversations)))
        self.memory = answer["memory"]
        return SAMPLES.validate_python(answer["samples"])

    async def _ask(self, line: bytes) -> dict[str, Any]:
        assert self._child.stdin is not None  # noqa: S101 - opened with pipes
        assert self._child.stdout is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):  # that it is gone is seen when it does not answer
            self._child.stdin.write(line + b"\n")
            await self._child.stdin.drain()
        answer = await self._child.stdout.readline()
        if not answer:
            raise EngineUnavailable(f"its process ended: {self._last_words()}")
        value: dict[str, Any] = json.loads(answer)
        if "failed" in value:
            raise EngineUnavailable(value["failed"])
        return value

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"


@asynccontextmanager
async def arm_process(settings: ArmSettings) -> AsyncIterator[ArmProcess]:
    """Run an arm for the length of the block. Raises EngineUnavailable when it does not start."""
    with tempfile.TemporaryFile() as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "dialogue.engine.bench.child", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=MAX_LINE_BYTES,
            cwd=Path(__file__).parents[3],
            start_new_session=True,  # as our engine's child: Linux shares a busy machine out by session, and Ctrl-C is ours alone
        )
        try:
            process = ArmProcess(child, log)
            await process.start(settings)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
