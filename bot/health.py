"""Three local pages for the operator's tools: /healthz (alive), /readyz (able to answer) and /metrics (Prometheus).

Alive means that the event loop turns. Ready means that the database answers and the engine takes requests; if not, the
page says why with status 503. Nothing here names users or shows what they wrote.
"""

from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Reasons = Callable[[], Awaitable[Sequence[str]]]  # why this process is not ready; empty = ready
Scrape = Callable[[], Awaitable[bytes]]


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
