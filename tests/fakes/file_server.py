"""A loopback HTTP server of files that fails on demand: what a package index and the hub are made of in tests.

with file_server() as server:
    server.add("/simple/demo/", page, kind="application/json")
    server.add("/files/demo.whl", data, Fault(breaks_after=1000), Fault(status=500))   # the first two answers, then good ones
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong."""

    status: int = 0  # answers with this instead
    breaks_after: int | None = None  # bytes of the body before the connection is cut
    stalls_after: int | None = None  # bytes of the body before nothing comes any more, until the server is closed
    ignores_range: bool = False  # sends everything although the end was asked for
    wrong_range: bool = False  # says 206 and starts elsewhere
    flips: int | None = None  # this byte of the file comes changed


@dataclass
class Served:
    """One file and what it was asked for."""

    data: bytes
    kind: str
    faults: list[Fault]
    redirect: str = ""  # send this location instead
    headers: dict[str, str] = field(default_factory=dict)  # further ones of the answer
    requests: list[dict[str, str]] = field(default_factory=list)  # headers of each request, names in lower case
    sent: int = 0  # bytes of bodies


class FileServer:
    """The files by their paths, query included."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, Served] = {}
        self.closing = threading.Event()

    def add(self, path: str, data: bytes, *faults: Fault, kind: str = "application/octet-stream", redirect: str = "") -> Served:
        """Serve `data` at `path`; each of the first answers has one of the faults."""
        self.files[path] = Served(data, kind, list(faults), redirect)
        return self.files[path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        files = cast("_Server", self.server).files
        served = files.files.get(self.path)
        if served is None:
            self._head(404, 0, {})
            return
        served.requests.append({name.lower(): value for name, value in self.headers.items()})
        fault = served.faults.pop(0) if served.faults else Fault()
        if served.redirect:
            self._head(302, 0, {"Location": served.redirect})
        elif fault.status:
            self._head(fault.status, 0, {})
        else:
            self._send(served, fault, files.closing)

    def _send(self, served: Served, fault: Fault, closing: threading.Event) -> None:
        data = bytearray(served.data)
        if fault.flips is not None:
            data[fault.flips] ^= 0xFF
        start = 0 if fault.ignores_range else self._start()
        if start >= len(data) > 0:
            self._head(416, 0, {"Content-Range": f"bytes */{len(data)}"})
            return
        claimed = 0 if fault.wrong_range else start
        headers = {"Content-Type": served.kind, **served.headers}
        if start:
            headers["Content-Range"] = f"bytes {claimed}-{len(data) - 1}/{len(data)}"
        body = bytes(data[claimed if start else 0 :])
        self._head(206 if start else 200, len(body), headers)
        stop = min(each if each is not None else len(body) for each in (fault.breaks_after, fault.stalls_after))
        self.wfile.write(body[:stop])
        self.wfile.flush()
        served.sent += len(body[:stop])
        if fault.stalls_after is not None:
            closing.wait()
        if stop < len(body):
            self.close_connection = True

    def _start(self) -> int:
        value = self.headers.get("Range", "")
        return int(value.removeprefix("bytes=").removesuffix("-")) if value else 0

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is the library's
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: FileServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server for the length of the block."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = FileServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.files
    finally:
        server.files.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
