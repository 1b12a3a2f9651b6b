"""One child process with an engine in it, as the parent sees it: it starts, streams, and ends once.

It knows nothing of restarts, retries or guilt; `process.ProcessEngine` decides on these. Every request is a stream with
a number. A stream ends exactly once: by a frame of the child, or by what the supervisor makes of the child's death.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import structlog

from dialogue.engine.base import AdapterRef, EngineInfo, GenerationFinished, GenerationRequest
from dialogue.engine.child import EXIT_OUT_OF_MEMORY
from dialogue.engine.child_launch import execute, reaped
from dialogue.engine.child_stream import ChildStream
from dialogue.engine.spec import EngineSpec
from dialogue.engine.wire import (
    Frame,
    WireError,
    error_from_plain,
    event_from_plain,
    finished_from_plain,
    pack,
    plain,
    read_frame,
    request_to_plain,
)
from dialogue.errors import DialogueError, EngineUnavailable, RequestTooLong

log = structlog.get_logger(__name__)

STDERR_LINES = 20  # kept of what the child said last
STDERR_LINES_TOLD = 3  # told in an error
STDERR_LINE_BYTES = 4096  # longer lines are cut
LAST_WORDS_S = 1.0  # for reading what a dead child left in its pipes
HEARTBEATS_PER_HANG = 4  # a child is hung when it left this many heartbeats in a row without any sign of life


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """How patient the supervisor is, and what the child may use."""

    start_timeout_s: float = 60.0  # until the engine is ready
    hang_timeout_s: float = 20.0  # without a sign of life, or without an answer to a cancellation
    close_timeout_s: float = 5.0  # for leaving by itself, before it is killed
    backoff_s: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the n-th start in a row; the last one stays
    memory_limit_bytes: int | None = None  # address space of the child (RLIMIT_AS); None = no limit


class ChildProcess:
    """A running child. `start` first; `gone` is done when the process has ended and been reaped."""

    def __init__(self, spec: EngineSpec, limits: ProcessLimits) -> None:
        loop = asyncio.get_running_loop()
        self._spec = spec
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._streams: dict[int, ChildStream] = {}
        self._last_number = 0
        self._hello: asyncio.Future[EngineInfo | DialogueError] = loop.create_future()
        self._adapters_set: asyncio.Future[DialogueError | None] = loop.create_future()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._alive_since_beat = True
        self._reason = ""  # why we ended it; empty = it ended by itself
        self.closing = False  # its end is wanted: nobody is to blame
        self.figures: dict[str, float] = {}  # what its engine counted at the last heartbeat
        self.gone: asyncio.Future[str] = loop.create_future()  # a sentence about its end

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def streams(self) -> tuple[ChildStream, ...]:
        """The requests that have not ended; after the death those that it took along."""
        return tuple(self._streams.values())

    async def start(self, adapters: Sequence[AdapterRef]) -> EngineInfo:
        """Spawn the process, wait until its engine is ready. Raises EngineUnavailable or AdapterRejected and leaves nothing behind."""
        await self._spawn()
        self._send(
            {
                "op": "start",
                "kind": self._spec.kind,
                "arguments": dict(self._spec.arguments),
                "adapters": [plain(adapter) for adapter in adapters],
                "memory_limit_bytes": self._limits.memory_limit_bytes,
            }
        )
        try:
            await asyncio.wait({self._hello, self.gone}, timeout=self._limits.start_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.kill("was not wanted any more")
            raise
        if not self._hello.done():
            raise EngineUnavailable(await self.kill(f"did not start within {self._limits.start_timeout_s:g} s"))
        hello = self._hello.result()
        if isinstance(hello, DialogueError):
            await self.kill("did not start")
            raise hello
        self._tasks.append(asyncio.create_task(self._watch_heartbeat()))
        return hello

    def open(self, request: GenerationRequest, on_end: Callable[[], None]) -> ChildStream:
        """Hand a request to the child; `on_end` is called when it has ended there. Raises RequestTooLong when it fits no frame."""
        self._last_number += 1
        stream = ChildStream(self._last_number, request.request_id, on_end)
        try:
            self._send({"op": "generate", "stream": stream.number, "request": request_to_plain(request)})
        except WireError as error:
            raise RequestTooLong(str(error)) from error
        self._streams[stream.number] = stream
        return stream

    def cancel(self, stream: ChildStream) -> None:
        """Ask the child to give up a request. A child that does not answer in time is hung."""
        if stream.ended.done() or self.gone.done():
            return
        self._send({"op": "cancel", "stream": stream.number})
        late = asyncio.get_running_loop().call_later(self._limits.hang_timeout_s, self._kill_now, "did not give up a cancelled request")
        stream.ended.add_done_callback(lambda _: late.cancel())

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """Load adapters into the running engine. Raises AdapterRejected, or EngineUnavailable when it dies of them."""
        answer = self._adapters_set = asyncio.get_running_loop().create_future()
        self._send({"op": "adapters", "adapters": [plain(adapter) for adapter in adapters]})
        await asyncio.wait({answer, self.gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise EngineUnavailable(self.gone.result())
        if error := answer.result():
            raise error

    async def close(self) -> None:
        """Let the child leave by itself, or kill it when it takes too long."""
        self.closing = True
        self._send({"op": "close"})
        await asyncio.wait({self.gone}, timeout=self._limits.close_timeout_s)
        await self.kill("was closed")

    async def kill(self, reason: str) -> str:
        """Kill the process with its descendants and wait for its end. Returns the sentence about it."""
        self._kill_now(reason)
        return await asyncio.shield(self.gone)

    def _kill_now(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._kill_group()

    def _kill_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> None:
        """Make the process. Nothing is awaited once it exists, so no cancellation can lose it."""
        with contextlib.ExitStack() as unless_born, contextlib.ExitStack() as always:
            (ours, theirs), (said, saying) = socket.socketpair(), socket.socketpair()
            for end in (theirs, saying):
                always.callback(end.close)
            writing = ours.dup()
            for end in (ours, writing, said):
                unless_born.callback(end.close)
            # Two transports on one socket: a write to a child that has just died must not close the one that still has its last frames.
            reader, hearing = await asyncio.open_connection(sock=ours)
            unless_born.callback(hearing.close)
            _, self._writer = await asyncio.open_connection(sock=writing)
            unless_born.callback(self._writer.close)
            cast("asyncio.Transport", self._writer.transport).pause_reading()
            stderr, closing = await asyncio.open_connection(sock=said)
            unless_born.callback(closing.close)
            try:
                self._process = execute(theirs, saying)
            except OSError as error:
                self.gone.set_result("the engine's process was never made")
                raise EngineUnavailable(f"the engine's process cannot be made: {error}") from error
            unless_born.pop_all()
        attending = asyncio.create_task(self._attend(reaped(self._process), reader, stderr))
        self._tasks.append(attending)
        attending.add_done_callback(partial(self._bury, (self._writer, hearing, closing)))
        if self._reason:  # killed before it was born
            self._kill_group()

    async def _attend(self, left: "asyncio.Future[int]", reader: asyncio.StreamReader, stderr: asyncio.StreamReader) -> str:
        """Listen until the process is gone, reaped, and everything is read that it said. Returns the sentence about its end."""
        listening, hearing = asyncio.create_task(self._listen(reader)), asyncio.create_task(self._hear(stderr))
        self._tasks += (listening, hearing)
        await asyncio.wait({listening, left}, return_when=asyncio.FIRST_COMPLETED)
        self._kill_group()  # a process without its connection is of no use; one that is ending does not notice
        status = await left
        await asyncio.wait({listening, hearing}, timeout=LAST_WORDS_S)
        return self._epitaph(status)

    def _bury(self, ends: Sequence[asyncio.StreamWriter], attending: "asyncio.Task[str]") -> None:
        """Leave nothing behind, and tell who waits for `gone`: also when the whole event loop is cancelled before anybody attended."""
        self._kill_group()
        for task in self._tasks:
            task.cancel()
        for writer in ends:
            writer.close()
        self.gone.set_result("the engine was abandoned" if attending.cancelled() else attending.result())

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take frames until there are no more."""
        try:
            while (frame := await read_frame(reader)) is not None:
                self._alive_since_beat = True
                self._take(frame)
        except (WireError, LookupError, TypeError, ValueError) as error:
            self._kill_now(f"sent a broken frame ({type(error).__name__}: {error})")

    def _take(self, frame: Frame) -> None:
        match frame["op"]:
            case "ready":
                self._hello.set_result(EngineInfo(**frame["info"]))
            case "failed":
                self._hello.set_result(error_from_plain(frame["error"]))
            case "begun":
                self._streams[frame["stream"]].begun = True
            case "event":
                self._streams[frame["stream"]].put(event_from_plain(frame))
            case "end":
                self._streams.pop(frame["stream"]).end(_last(frame))
            case "pong":
                self.figures = frame["figures"]
            case "adapters":
                self._adapters_set.set_result(error_from_plain(frame["error"]) if frame["error"] else None)

    async def _hear(self, stderr: asyncio.StreamReader) -> None:
        """Keep the last lines for the error text; forward all of them to the log."""
        rest = b""
        while chunk := await stderr.read(STDERR_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            self._note(lines)
            rest = rest[-STDERR_LINE_BYTES:]
        self._note([rest])

    def _note(self, lines: Sequence[bytes]) -> None:
        for text in filter(None, (line.decode(errors="replace").strip() for line in lines)):
            self._stderr.append(text)
            log.debug("engine_said", pid=self.pid, line=text)

    async def _watch_heartbeat(self) -> None:
        """Kill the child when it leaves HEARTBEATS_PER_HANG beats in a row without any frame.

        Beats are counted, not seconds, so that a child is not condemned for a time in which this process stood still.
        """
        silent = 0
        while silent < HEARTBEATS_PER_HANG:
            self._alive_since_beat = False
            self._send({"op": "ping"})
            await asyncio.sleep(self._limits.hang_timeout_s / HEARTBEATS_PER_HANG)
            silent = 0 if self._alive_since_beat else silent + 1
        self._kill_now(f"hung: no sign of life for {self._limits.hang_timeout_s:g} s")

    def _send(self, frame: Frame) -> None:
        data = pack(frame)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    def _epitaph(self, status: int) -> str:
        said = f"; it said last: {' | '.join(list(self._stderr)[-STDERR_LINES_TOLD:])}" if self._stderr else ""
        if self._reason:
            return f"the engine {self._reason}{said}"
        if status == EXIT_OUT_OF_MEMORY:
            return f"the engine ran out of memory{said}"
        if status < 0:
            return f"the engine was ended by {signal.Signals(-status).name}{said}"
        return f"the engine ended with exit status {status}{said}"


def _last(frame: Frame) -> GenerationFinished | DialogueError:
    """Return what a stream ends with."""
    if "finished" in frame:
        return finished_from_plain(frame["finished"])
    return error_from_plain(frame["error"]) if "error" in frame else EngineUnavailable("the engine gave up the request")
