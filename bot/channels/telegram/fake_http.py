"""HTTP/1.1 for the fake server, as a protocol of asyncio: keep-alive, bodies with a length or in chunks, and connections that break."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD_BYTES = 64 * 1024

_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    verb: str
    target: str  # path and query
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes
    connection: "Connection"


Handler = Callable[[Request], None]


class Connection(asyncio.Protocol):
    """One client. The handler answers with `reply` now or later, or with `abort`; the next request waits until then."""

    def __init__(self, handler: Handler, connections: set["Connection"]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = b""
        self._is_busy = False
        self._transport: asyncio.Transport | None = None
        self.on_lost: Callable[[], None] | None = None  # called if the client goes away while the handler has no answer yet

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio promises for TCP
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._connections.discard(self)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._serve()

    def reply(
        self, code: int, body: bytes, *, content_type: str = "application/json", retry_after: int = 0, keep: int | None = None
    ) -> None:
        """Answer the request; with `keep` only so many bytes of the body, and then the connection breaks."""
        if self._transport is None:
            return
        extra = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        head = (
            f"HTTP/1.1 {code} {_REASONS.get(code, 'Unknown')}\r\nContent-Type: {content_type}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + (body if keep is None else body[:keep]))
        if keep is not None:
            self._transport.close()
            return
        self._is_busy = False
        self.on_lost = None
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._serve)

    def abort(self) -> None:
        """Break the connection without an answer."""
        if self._transport is not None:
            self._transport.abort()

    def _serve(self) -> None:
        if self._is_busy or self._transport is None:
            return
        try:
            request = self._take_request()
        except ValueError:
            self.reply(400, b'{"ok":false,"error_code":400,"description":"Bad Request"}', keep=1 << 20)
            return
        if request is not None:
            self._is_busy = True
            self._handler(request)

    def _take_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ValueError("the head of the request is too long")
            return None
        first, *lines = self._buffer[:end].split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        taken = self._take_body(headers, end + 4)
        if taken is None:
            return None
        body, self._buffer = taken
        verb, target, _ = first.decode("latin-1").split(" ", 2)
        return Request(verb, target, headers, body, self)

    def _take_body(self, headers: dict[bytes, bytes], start: int) -> tuple[bytes, bytes] | None:
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            return _chunks(self._buffer, start)
        end = start + int(headers.get(b"content-length", b"0"))
        return None if len(self._buffer) < end else (self._buffer[start:end], self._buffer[end:])


def _chunks(buffer: bytes, start: int) -> tuple[bytes, bytes] | None:
    """Return the body and what follows it, or None as long as it is not complete."""
    parts = []
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(buffer[start:line_end].partition(b";")[0], 16)
        start, end = line_end + 2, line_end + 2 + size
        if len(buffer) < end + 2:
            return None
        if size == 0:
            return b"".join(parts), buffer[end + 2 :]
        parts.append(buffer[start:end])
        start = end + 2
