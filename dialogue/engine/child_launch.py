"""Making the child's process, and learning of its end.

Not by asyncio: its way of making processes can be cancelled half-way, and when the whole event loop ends in that moment
it waits for ever (seen on Python 3.11).
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading


def execute(connection: socket.socket, stderr: socket.socket) -> "subprocess.Popen[bytes]":
    """Execute the child's program: a new interpreter in a session of its own, out of reach of the terminal's Ctrl-C. Raises OSError."""
    command = [sys.executable, "-P", "-m", "dialogue.engine.child", str(connection.fileno()), str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr.fileno(),
        pass_fds=(connection.fileno(),),
        start_new_session=True,
    )


def reaped(process: "subprocess.Popen[bytes]") -> "asyncio.Future[int]":
    """Return a future of the exit status. A thread waits for it, as there is no portable call to be told."""
    loop = asyncio.get_running_loop()
    left: asyncio.Future[int] = loop.create_future()

    def tell(status: int) -> None:
        if not left.done():
            left.set_result(status)

    def wait() -> None:
        status = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(tell, status)

    threading.Thread(target=wait, name=f"reaper of {process.pid}", daemon=True).start()
    return left
