"""A small HTTP server inside the program: the health pages and the webhooks of channels are served by one each."""

import contextlib
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.applications import Starlette

STOP_S = 2  # open connections get this long when the program ends

log = structlog.get_logger(__name__)


class HttpServer:
    """Serves one application. The port is taken by the constructor, so that a taken one is reported before anything else starts."""

    def __init__(self, application: Starlette, host: str, port: int, *, name: str) -> None:
        """Bind. `port` 0 takes any free one; `name` stands in the log. Raises OSError."""
        self._name = name
        self._socket = _bind(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        # No headers of proxies are believed, and uvicorn's own logging stays off.
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)

    async def run(self) -> None:
        """Serve until cancelled or closed."""
        log.info("http.listening", name=self._name, host=self.host, port=self.port)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self.release()

    def close(self) -> None:
        """Let `run` return."""
        self._server.should_exit = True

    def release(self) -> None:
        """Give the port back, whether `run` ever ran or not. Idempotent."""
        self._socket.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program."""
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"http://{host}:{port}") from None
