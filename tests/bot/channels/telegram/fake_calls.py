"""A bot for the tests of the fake server: it calls methods and looks at what came back, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram

CHAT = 1001
GROUP, SUPERGROUP = -4001, -1001234567890


class Time:
    """The time of a fake server; a test moves it by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Calls methods of a fake server over HTTP."""

    def __init__(self, telegram: FakeTelegram, http: httpx2.AsyncClient) -> None:
        self.telegram = telegram
        self.http = http

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the whole answer, `ok` or not."""
        response = await self.http.post(self.url(method), json=params)
        return response.json()

    async def result(self, method: str, **params: Any) -> Any:
        """Return the result of a call that succeeds."""
        answer = await self.call(method, **params)
        assert answer["ok"], answer
        return answer["result"]

    async def error(self, method: str, **params: Any) -> str:
        """Return code and description of a call that is refused."""
        answer = await self.call(method, **params)
        assert not answer["ok"], answer
        return f"{answer['error_code']} {answer['description']}"

    def url(self, method: str) -> str:
        return f"{self.telegram.base_url}/bot{self.telegram.token}/{method}"


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Caller]:
    """A fake server without limits or pauses of its own, unless `settings` say otherwise, and a bot that calls it."""
    given: dict[str, Any] = {"limits": Limits.none(), "pace": 0.0, **settings}
    async with FakeTelegram(**given) as telegram, httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        yield Caller(telegram, http)


async def send(bot: Caller, text: str = "answer", **params: Any) -> int:
    """Send a message to CHAT, where somebody wrote before; return its id."""
    if not bot.telegram.screen():
        bot.telegram.say("hi")
    return int((await bot.result("sendMessage", chat_id=CHAT, text=text, **params))["message_id"])


def keyboard(data: str) -> dict[str, Any]:
    """One button."""
    return {"inline_keyboard": [[{"text": data.title(), "callback_data": data}]]}
