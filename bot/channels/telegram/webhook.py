"""The webhook: a route of its own that says 200 only after the commit.

The secret header is compared as bytes before the body is read. Under overload, or while the database is away, the answer is
503 with `Retry-After`: Telegram keeps the updates for a day, a queue that costs nothing.
"""

import hmac
from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.channels.base import Inlet
from bot.channels.telegram.groups import BotIdentity
from bot.channels.telegram.parse import inbox_item
from storage.errors import StorageError

SECRET_HEADER = b"x-telegram-bot-api-secret-token"
BUSY_S = 2  # when too many requests are being stored
AWAY_S = 10  # when the database does not answer, or too much is unanswered
BACKLOG_EVERY_S = 1.0  # how often the backlog is counted

log = structlog.get_logger(__name__)


class Webhook:
    """Takes updates. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        inlet: Inlet,
        bot: BotIdentity,
        secret: str,
        *,
        max_bytes: int,
        max_waiting: int,
        max_backlog: int,
        clock: Callable[[], float],
    ) -> None:
        if not secret:
            raise ValueError("a webhook without a secret takes updates from anybody")
        self._inlet = inlet
        self._bot = bot
        self._secret = secret.encode()
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._max_backlog = max_backlog
        self._clock = clock
        self._waiting = 0
        self._backlog = 0
        self._counted_at = float("-inf")

    def application(self, path: str) -> Starlette:
        """Return the application with the one route."""
        return Starlette(routes=[Route(path, self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        """Store one update. 401 without the secret, 503 under overload, 200 once it is durable."""
        if not self._is_telegram(request):
            return PlainTextResponse("unauthorized\n", status_code=401)
        if self._waiting >= self._max_waiting:
            return _come_back(BUSY_S)
        self._waiting += 1
        try:
            return await self._store(request)
        finally:
            self._waiting -= 1

    async def _store(self, request: Request) -> Response:
        try:
            raw = await self._read(request)
            if await self._is_full():
                return _come_back(AWAY_S)
            await self._inlet.accept([inbox_item(raw, self._bot)])
        except ClientDisconnect:
            return PlainTextResponse("", status_code=400)
        except StorageError as error:
            log.warning("telegram.webhook_refused", reason=str(error))
            return _come_back(AWAY_S)
        return PlainTextResponse("")

    def _is_telegram(self, request: Request) -> bool:
        given = [value for name, value in request.scope["headers"] if name == SECRET_HEADER]
        return len(given) == 1 and hmac.compare_digest(given[0], self._secret)

    async def _read(self, request: Request) -> bytes:
        """Return the body, cut when it is too long: it is quarantined then. Refused, Telegram would repeat it for a day."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_bytes:
                break
        return bytes(body[: self._max_bytes])

    async def _is_full(self) -> bool:
        now = self._clock()
        if now - self._counted_at > BACKLOG_EVERY_S:
            self._counted_at = now
            self._backlog = await self._inlet.backlog()
        return self._backlog >= self._max_backlog


def _come_back(seconds: int) -> Response:
    return PlainTextResponse("busy\n", status_code=503, headers={"Retry-After": str(seconds)})
