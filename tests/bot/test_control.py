"""The control socket carries operations to the process that owns the database, and nobody else's."""

import asyncio
import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bot import control
from bot.control import ControlBusy, ControlServer, ControlUnavailable, call, socket_path
from bot.errors import CliError, ExitCode
from storage.errors import DatabaseBusy


async def _echo(arguments: Mapping[str, Any]) -> Any:
    return dict(arguments)


async def _busy(arguments: Mapping[str, Any]) -> Any:
    raise DatabaseBusy("somebody has it")


async def _long(arguments: Mapping[str, Any]) -> Any:
    return "y" * 5000


async def _defect(arguments: Mapping[str, Any]) -> Any:
    raise KeyError("oops")


def _server(path: Path, max_bytes: int = 1000) -> ControlServer:
    return ControlServer(path, {"echo": _echo, "busy": _busy, "long": _long, "defect": _defect}, max_bytes=max_bytes)


async def _raw(path: Path, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    received = await reader.readline()
    writer.close()
    return received


async def test_an_operation_runs_in_the_serving_process(tmp_path: Path) -> None:
    """Arguments arrive as they were sent, Chinese and line breaks included, and the result comes back."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        assert await call(server.path, "echo", name="客服\n", count=2) == {"name": "客服\n", "count": 2}


async def test_only_the_user_may_connect(tmp_path: Path) -> None:
    """The socket has mode 0600 from its first moment."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600


async def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with another user id gets no answer, even if the mode let it in."""
    monkeypatch.setattr(control, "_is_same_user", _nobody)
    async with _server(tmp_path / "kefu.db.sock") as server:
        with pytest.raises(ControlUnavailable):
            await call(server.path, "echo")


def _nobody(connection: socket.socket) -> bool:
    return False


async def test_expected_errors_keep_their_sentence_and_exit_code(tmp_path: Path) -> None:
    """What the operator would read in the running process is what the command shows."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        with pytest.raises(CliError, match="somebody has it") as caught:
            await call(server.path, "busy")
    assert caught.value.code is ExitCode.TEMPORARY


async def test_a_defect_is_reported_and_the_server_goes_on(tmp_path: Path) -> None:
    """One broken operation takes neither the connection nor the server down."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        with pytest.raises(CliError, match="defect"):
            await call(server.path, "defect")
        assert await call(server.path, "echo") == {}


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[1]\n", b'{"operation": 5}\n', b"[" * 900 + b"\n", b"\xff\xfe\n", b'{"operation": "none", "arguments": {}}\n']
)
async def test_nonsense_gets_a_sentence(line: bytes, tmp_path: Path) -> None:
    """What is no request is answered with how a request looks, or which operation is unknown."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        assert json.loads(await _raw(server.path, line))["code"] == ExitCode.USAGE


async def test_a_request_beyond_the_limit_is_dropped(tmp_path: Path) -> None:
    """A line without end fills no memory: the connection is closed."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        assert await _raw(server.path, b"x" * 5000) == b""
        assert await call(server.path, "echo") == {}


async def test_an_answer_beyond_the_limit_says_so(tmp_path: Path) -> None:
    """A result that is too big becomes a sentence that names the setting."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        with pytest.raises(CliError, match="control_bytes"):
            await call(server.path, "long")


async def test_a_silent_peer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing loses the connection."""
    monkeypatch.setattr(control, "READ_S", 0.01)
    async with _server(tmp_path / "kefu.db.sock") as server:
        assert await _raw(server.path, b"") == b""


async def test_nobody_listens(tmp_path: Path) -> None:
    """Without a running Kefu the caller is told so: no file, or the file of a dead process."""
    path = tmp_path / "kefu.db.sock"
    with pytest.raises(ControlUnavailable):
        await call(path, "ping")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ControlUnavailable):
        await call(path, "ping")


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """After kill -9 the next start takes the name over."""
    path = tmp_path / "kefu.db.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with _server(path):
        assert await call(path, "echo", a=1) == {"a": 1}
    assert not path.exists()


async def test_a_living_process_keeps_its_socket(tmp_path: Path) -> None:
    """A second server does not take the name of one that answers, and does not remove it either."""
    async with _server(tmp_path / "kefu.db.sock") as server:
        with pytest.raises(ControlBusy):
            await _server(server.path).__aenter__()
        assert await call(server.path, "echo") == {}


async def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    """Something that is no socket is never deleted."""
    path = tmp_path / "kefu.db.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        await _server(path).__aenter__()
    assert path.read_text() == "mine"


def test_a_long_path_falls_back_to_the_runtime_folder(tmp_path: Path) -> None:
    """A database deep in a tree still gets a socket, the same one for every caller, another one for another database."""
    deep = tmp_path / ("d" * 100) / "kefu.db"
    found = socket_path(deep, tmp_path)
    assert found.parent == tmp_path
    assert found == socket_path(deep, tmp_path)
    assert found != socket_path(deep.with_name("other.db"), tmp_path)
    assert socket_path(Path("/srv/kefu.db"), tmp_path) == Path("/srv/kefu.db.sock")
