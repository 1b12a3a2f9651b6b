"""The inside of an engine's child process: `python -m dialogue.engine.child FD PARENT_PID`.

It hosts one engine and speaks `wire` over an inherited socket. It is crash-only: when the parent is gone, when memory
is out or when a frame makes no sense, it ends at once and leaves the rest to the supervisor.
"""

import asyncio
import ctypes
import errno
import faulthandler
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from dialogue.engine.base import Engine, GenerationFinished, GenerationRequest
from dialogue.engine.spec import find_builder
from dialogue.engine.wire import (
    Frame,
    adapter_from_plain,
    error_to_plain,
    event_to_plain,
    pack,
    plain,
    read_frame,
    request_from_plain,
)

EXIT_OUT_OF_MEMORY = errno.ENOMEM
# How long OpenMP's threads wait at a barrier before they sleep. By default it is milliseconds: as soon as something else wants one of
# two cores, torch's steps of the default model then take up to ten times as long, with this twice to three times. On a quiet machine
# they take the same; with 1000, which is best for llama.cpp (it sets its own), torch's many small products wait too often.
SPIN_COUNT = "2000"
PR_SET_PDEATHSIG = 1


class Host:
    """Serves one engine over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._engine: Engine | None = None
        self._tasks: dict[int, asyncio.Task[GenerationFinished]] = {}
        self._loading: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Obey frames until `close` or the end of the connection."""
        while (frame := await read_frame(self._reader)) is not None:
            match frame["op"]:
                case "start":
                    await self._start(frame)
                case "generate":
                    await self._begin(frame["stream"], request_from_plain(frame["request"]))
                case "cancel":
                    if task := self._tasks.get(frame["stream"]):
                        task.cancel()
                case "adapters":
                    self._load(frame)
                case "ping":
                    await self._send({"op": "pong", "figures": dict(self._engine.health().figures) if self._engine else {}})
                case "close":
                    return await self._close()
                case other:
                    raise ValueError(f"unknown frame {other!r}")
        return None

    async def _start(self, frame: Frame) -> None:
        if limit := frame["memory_limit_bytes"]:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            self._engine = find_builder(frame["kind"])(frame["arguments"])
            await self._engine.set_adapters([adapter_from_plain(each) for each in frame["adapters"]])
            info = await self._engine.start()
        except Exception as error:  # noqa: BLE001 - whatever keeps a foreign engine from starting is told to the supervisor
            die_if_memory_is_out(error)
            await self._send({"op": "failed", "error": error_to_plain(error)})
        else:
            await self._send({"op": "ready", "info": plain(info)})

    async def _begin(self, stream: int, request: GenerationRequest) -> None:
        await self._send({"op": "begun", "stream": stream})
        task = self._tasks[stream] = asyncio.create_task(self._generate(stream, request))
        task.add_done_callback(partial(self._end, stream))

    async def _generate(self, stream: int, request: GenerationRequest) -> GenerationFinished:
        """Send every event but the last one, which waits until the generator is closed and its slot therefore free."""
        finished = None
        async with aclosing(self._hosted().generate(request)) as events:
            async for event in events:
                if isinstance(event, GenerationFinished):
                    finished = event
                else:
                    await self._send({"op": "event", "stream": stream, **event_to_plain(event)})
        if finished is None:
            raise RuntimeError("the engine ended a generation without a last event")
        return finished

    def _end(self, stream: int, task: "asyncio.Task[GenerationFinished]") -> None:
        """Send the one last frame of a stream, also where its task was cancelled before it ever ran."""
        del self._tasks[stream]
        if task.cancelled():
            end: Frame = {"cancelled": True}
        elif error := task.exception():
            die_if_memory_is_out(error)
            end = {"error": error_to_plain(error)}
        else:
            end = event_to_plain(task.result())
        self._writer.write(pack({"op": "end", "stream": stream, **end}))

    def _load(self, frame: Frame) -> None:
        """Load adapters beside the running requests."""
        task = asyncio.create_task(self._set_adapters(frame["adapters"]))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _set_adapters(self, adapters: list[Mapping[str, Any]]) -> None:
        error = None
        try:
            await self._hosted().set_adapters([adapter_from_plain(each) for each in adapters])
        except Exception as failure:  # noqa: BLE001 - the supervisor hears of it and keeps the old adapters
            die_if_memory_is_out(failure)
            error = error_to_plain(failure)
        await self._send({"op": "adapters", "error": error})

    async def _close(self) -> None:
        for task in (running := list(self._tasks.values())):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._engine is not None:
            await self._engine.close()

    def _hosted(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("not started")
        return self._engine

    async def _send(self, frame: Frame) -> None:
        self._writer.write(pack(frame))
        await self._writer.drain()


def die_if_memory_is_out(error: BaseException) -> None:
    """End without another allocation when this is how exhausted memory shows: nothing can be trusted any more."""
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    if isinstance(error, MemoryError) or no_thread or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        os._exit(EXIT_OUT_OF_MEMORY)


def bind_to_parent(parent: int) -> None:
    """Die when the supervisor dies, even inside native code; on systems without the call, at the end of the socket.

    Linux means the thread that made this process, which is the one with the supervisor's event loop.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def shorten_waits() -> None:
    """Let OpenMP's threads sleep soon. To be called before an engine's library is loaded."""
    os.putenv("GOMP_SPINCOUNT", SPIN_COUNT)


def shield_process() -> None:
    """Leave signals of the terminal and the service manager to the parent, and write no memory with texts to a disk."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.dup2(2, 1)  # whatever a library prints goes where the supervisor reads it
    faulthandler.enable()


async def serve(fd: int) -> None:
    """Serve the socket `fd` until the supervisor is done with it or gone; then end without waiting for any thread."""
    os.set_inheritable(fd, False)  # no grandchild keeps the connection open
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    try:
        await Host(reader, writer).run()
    except ConnectionError:
        os._exit(0)  # the supervisor is gone: nobody is left to be told
    except Exception as error:  # noqa: BLE001 - any other error would keep asyncio waiting for threads before it is shown
        die_if_memory_is_out(error)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Run the child. Does not return."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    bind_to_parent(parent)
    shield_process()
    shorten_waits()
    asyncio.run(serve(fd))


if __name__ == "__main__":
    main()
