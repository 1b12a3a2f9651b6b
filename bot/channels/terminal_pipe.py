"""The terminal channel for programs: a line in on stdin, an answer out on stdout, remarks on stderr.

Lines are read by a thread, because stdin may be a pipe, a file or a terminal, and because a read cannot be cancelled. The
thread is a daemon and uses the file descriptor itself, so the program can end while it still waits.
"""

import asyncio
import os
import threading
from typing import TextIO

from dialogue.normalise import escape_control

MAX_LINE_BYTES = 4 << 20  # what is longer is cut here, before it is decoded; the channel cuts by characters later
_CHUNK_BYTES = 1 << 16
_LINES_AHEAD = 64


class LineReader:
    """The lines of a file descriptor, as an event loop wants them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(_LINES_AHEAD)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def readline(self) -> str | None:
        """Return the next line without its end, None after the last one. What is no UTF-8 becomes U+FFFD."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._read, args=(self._loop,), name="kefu-stdin", daemon=True).start()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
        self._room.release()
        return line

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        pending = bytearray()
        try:
            while chunk := os.read(self._descriptor, _CHUNK_BYTES):
                *lines, rest = chunk.split(b"\n")
                for line in lines:
                    self._push(loop, bytes(pending) + line)
                    pending.clear()
                pending += rest[: MAX_LINE_BYTES - len(pending)]
        except OSError:  # a terminal that went away ends the input like any other end
            pending.clear()
        if pending:
            self._push(loop, bytes(pending))
        self._push(loop, None)

    def _push(self, loop: asyncio.AbstractEventLoop, line: bytes | None) -> None:
        text = None if line is None else line[:MAX_LINE_BYTES].decode("utf-8", errors="replace").removesuffix("\r")
        self._room.acquire()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._lines.put_nowait, text)


class PipeScreen:
    """No prompt, no colours, no waiting signs."""

    def __init__(self, stdin: int, stdout: TextIO, stderr: TextIO) -> None:
        self._lines = LineReader(stdin)
        self._stdout = stdout
        self._stderr = stderr

    async def read_line(self) -> str | None:
        return await self._lines.readline()

    def wait(self, position: int = 0) -> None:
        """A program needs no sign of life."""

    def write(self, text: str) -> None:
        """A program wants the answer, not how it grows."""

    def restart(self) -> None:
        """Nothing was shown."""

    def finish(self, text: str) -> None:
        print(escape_control(text, keep="\n\t"), file=self._stdout, flush=True)

    def owe(self, text: str) -> None:
        self.note(f"I still owed you this answer: {text}")

    def note(self, text: str) -> None:
        print(escape_control(text, keep="\n\t"), file=self._stderr, flush=True)

    def close(self) -> None:
        """Nothing was changed."""
