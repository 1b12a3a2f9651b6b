"""Three local pages for the operator's tools: /healthz (alive), /readyz (able to answer) and /metrics (Prometheus).

Alive means that the event loop turns. Ready means that the database answers and the engine takes requests; if not, the
page says why with status 503. Nothing here names users or shows what they wrote.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

STOP_S = 2  # open connections get this long when the program ends

Reasons = Callable[[], Awaitable[Sequence[str]]]  # why this process is not ready; empty = ready
Scrape = Callable[[], Awaitable[bytes]]

log = structlog.get_logger(__name__)


def build_pages(reasons: Reasons, scrape: Scrape) -> Starlette:
    """Return the application with the three pages."""

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        missing = list(await reasons())
        return JSONResponse({"ready": not missing, "reasons": missing}, status_code=503 if missing else 200)

    async def metrics(_request: Request) -> Response:
        return Response(await scrape(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", live), Route("/readyz", ready), Route("/metrics", metrics)])


class HealthServer:
    """Serves the pages. The port is taken by the constructor, so that a taken one is reported before anything else starts."""

    def __init__(self, pages: Starlette, host: str, port: int) -> None:
        """Bind. `port` 0 takes any free one. Raises OSError."""
        self._socket = _bind(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        # Loopback and GET only: no headers of proxies are believed, and uvicorn's own logging stays off.
        config = uvicorn.Config(
            pages,
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
        log.info("health.listening", host=self.host, port=self.port)
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
