"""The control socket: how a command reaches the `kefu run` that owns the database.

A unix socket (mode 0600, and the peer's user id is checked) beside the database file. A request is one line of JSON,
`{"operation": "users.erase", "arguments": {…}}`, and so is the answer: `{"result": …}` or
`{"error": "a sentence", "hint": "what to do", "code": 75}`. Size and time of both are limited. The operations themselves are in
`bot.operations`; this module only carries them.
"""

import asyncio
import hashlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import structlog

from bot.errors import CliError, ExitCode, describe

MAX_PATH_BYTES = 103  # sun_path of macOS, NUL included, holds 104; Linux 108
READ_S = 10.0  # a peer that is silent this long is dropped
CALL_S = 600.0  # the longest operation: a backup of a big database

Operation = Callable[[Mapping[str, Any]], Awaitable[Any]]

log = structlog.get_logger(__name__)


class ControlUnavailable(CliError):
    """Nobody listens on the socket: no `kefu run` uses this database."""

    def __init__(self, message: str = "No running Kefu uses this database.") -> None:
        super().__init__(message, code=ExitCode.TEMPORARY)


class ControlBusy(CliError):
    """Another living process listens on this socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"Another Kefu is running: it listens on {path}.", code=ExitCode.TEMPORARY)


def socket_path(anchor: Path, runtime_dir: Path) -> Path:
    """Return where the socket of the database file `anchor` lies: beside it, or in `runtime_dir` when that path is too long."""
    beside = anchor.absolute().with_name(f"{anchor.name}.sock")
    if len(os.fsencode(beside)) <= MAX_PATH_BYTES:
        return beside
    digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    return runtime_dir / f"kefu-{digest}.sock"


class ControlServer:
    """Serves operations on a socket. Use as an async context manager."""

    def __init__(self, path: Path, operations: Mapping[str, Operation], *, max_bytes: int) -> None:
        self.path = path
        self._operations = operations
        self._max_bytes = max_bytes
        self._inode = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen. Raises ControlBusy and OSError."""
        listener = _bind(self.path)
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=self._max_bytes)
        log.info("control.listening", path=str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await self._server.wait_closed()
        if self.path.exists() and self.path.stat().st_ino == self._inode:  # not that of a successor
            self.path.unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _is_same_user(writer.get_extra_info("socket")):
                log.warning("control.stranger_refused")
                return
            while line := await self._read(reader):
                writer.write(self._encode(await self._answer(line)))
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a line beyond the limit
            log.info("control.connection_dropped", reason=type(error).__name__)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        async with asyncio.timeout(READ_S):
            return await reader.readline()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"result": await self._run(*_parse_request(line))}
        except Exception as error:
            failure = describe(error)
            if failure.expected:
                log.info("control.operation_refused", reason=failure.message)
            else:
                log.exception("control.operation_failed")
            return {"error": failure.message, "hint": failure.hint, "code": int(failure.code)}

    async def _run(self, name: str, arguments: Mapping[str, Any]) -> Any:
        operation = self._operations.get(name)
        if operation is None:
            raise CliError(f"The running Kefu knows no operation {name!r}.", code=ExitCode.USAGE)
        async with asyncio.timeout(CALL_S):
            return await operation(arguments)

    def _encode(self, answer: Mapping[str, Any]) -> bytes:
        line = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
        if len(line) <= self._max_bytes:
            return line
        error = f"The answer has {len(line)} bytes; the limit is {self._max_bytes} ([limits] control_bytes)."
        return json.dumps({"error": error, "hint": "", "code": int(ExitCode.FAILURE)}).encode() + b"\n"


async def call(path: Path, operation: str, /, *, max_bytes: int = 1 << 20, timeout_s: float = CALL_S, **arguments: Any) -> Any:
    """Run one operation in the process that listens on `path` and return its JSON result.

    Raises ControlUnavailable, the running process's own error as CliError, and TimeoutError.
    """
    request = json.dumps({"operation": operation, "arguments": arguments}, ensure_ascii=False).encode() + b"\n"
    async with asyncio.timeout(timeout_s), _connection(path, max_bytes) as (reader, writer):
        answer = json.loads(await _exchange(reader, writer, request))
    if "error" in answer:
        raise CliError(answer["error"], hint=answer["hint"], code=ExitCode(answer["code"]))
    return answer["result"]


@asynccontextmanager
async def _connection(path: Path, max_bytes: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=max_bytes)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlUnavailable from None
    try:
        yield reader, writer
    finally:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    try:
        writer.write(request)
        await writer.drain()
        line = await reader.readline()
    except ConnectionError:
        line = b""
    if not line:
        raise ControlUnavailable("The running Kefu closed the control socket before it answered.")
    return line


def _parse_request(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    match request:
        case {"operation": str(name), "arguments": dict(arguments)}:
            return name, arguments
    raise CliError('A request looks like {"operation": "ping", "arguments": {}}.', code=ExitCode.USAGE)


def _bind(path: Path) -> socket.socket:
    _make_private_folder(path.parent)
    try:
        return _bind_once(path)
    except OSError:
        if not path.is_socket():
            raise
    if _is_alive(path):
        raise ControlBusy(path)
    path.unlink(missing_ok=True)  # of a process that was killed
    return _bind_once(path)


def _bind_once(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)  # no moment in which others could connect
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old_mask)
    return listener


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid not in {os.getuid(), 0} and status.st_mode & stat.S_IWOTH:
        raise PermissionError(f"{folder} belongs to somebody else: no control socket is put there")


def _is_same_user(connection: socket.socket) -> bool:
    peer = getattr(socket, "SO_PEERCRED", None)
    if peer is None:  # not Linux: the mode of the socket has to suffice
        return True
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, peer, struct.calcsize("3i")))
    return uid in {os.getuid(), 0}
