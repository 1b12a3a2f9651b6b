"""Webhooks of the fake Telegram: order, retries, secrets. The receiver is a small server of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bot.channels.telegram.fake_faults import Faults
from bot.channels.telegram.fake_http import Connection, Request
from tests.bot.channels.telegram.fake_calls import CHAT, Caller, Time, keyboard, running, send

SECRET = "a-Secret_1"


class Receiver:
    """A webhook that answers with the statuses it is given, then with 200; while it is `closed` it does not answer at all."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[str] = []  # texts and data, in the order in which they came
        self.secrets: set[bytes] = set()
        self.held: list[Callable[[], None]] = []
        self.closed = False
        self.arrived = asyncio.Event()
        self.connections: set[Connection] = set()

    def __call__(self, request: Request) -> None:
        update = json.loads(request.body)
        self.got.append(update["message"]["text"] if "message" in update else update["callback_query"]["data"])
        self.secrets.add(request.headers.get(b"x-telegram-bot-api-secret-token", b""))
        status = self.statuses.pop(0) if self.statuses else 200
        if self.closed:
            self.held.append(lambda: request.connection.reply(status, b""))
        else:
            request.connection.reply(status, b"", retry_after=7 if status == 429 else 0)
        self.arrived.set()

    async def wait_for(self, count: int) -> None:
        """Wait until so many requests came."""
        while len(self.got) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def open(self) -> None:
        """Answer what was held."""
        self.closed = False
        for answer in self.held:
            answer()


@asynccontextmanager
async def hooked(receiver: Receiver, **settings: Any) -> AsyncIterator[Caller]:
    """A fake server whose bot has `receiver` as its webhook."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(receiver, receiver.connections), "127.0.0.1", 0)
    async with running(**settings) as bot:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        await bot.result("setWebhook", url=url, secret_token=SECRET, max_connections=3)
        yield bot
    server.close()
    await break_off(receiver)


async def break_off(receiver: Receiver) -> None:
    """Close every connection of a webhook, as a bot does that is restarted."""
    for connection in tuple(receiver.connections):
        connection.abort()
    await asyncio.sleep(0)


async def all_delivered(bot: Caller) -> None:
    """Wait until nothing waits for the bot."""
    while bot.telegram.pending():
        await bot.telegram.changed()


async def test_the_secret_comes_as_a_header() -> None:
    """Each request carries the secret of setWebhook."""
    receiver = Receiver()
    async with hooked(receiver) as bot:
        bot.telegram.say("a")
        await all_delivered(bot)
        assert (receiver.got, receiver.secrets) == (["a"], {SECRET.encode()})


async def test_a_chat_waits_for_its_previous_update_and_others_do_not() -> None:
    """The next message of a chat comes after the previous got its 2xx; other chats and pressed buttons overtake."""
    receiver = Receiver()
    async with hooked(receiver) as bot:
        await send(bot, reply_markup=keyboard("yes"))
        await all_delivered(bot)
        receiver.closed = True
        for text in ("first", "second"):
            bot.telegram.say(text)
        bot.telegram.press("yes")
        bot.telegram.say("other", chat=CHAT + 1)
        await receiver.wait_for(4)
        assert receiver.got == ["hi", "first", "yes", "other"]
        receiver.open()
        await all_delivered(bot)
        assert receiver.got[4:] == ["second"]


async def test_everything_but_2xx_is_tried_again() -> None:
    """An update comes again until it got a 2xx, and the order of the chat holds."""
    receiver = Receiver(500, 301, 429, 204)
    async with hooked(receiver) as bot:
        bot.telegram.say("a")
        bot.telegram.say("b")
        await all_delivered(bot)
        assert receiver.got == ["a", "a", "a", "a", "b"]
        info = await bot.result("getWebhookInfo")
        assert (info["pending_update_count"], info["last_error_message"]) == (0, "Wrong response from the webhook: 429")


async def test_an_update_is_dropped_when_its_time_is_over() -> None:
    """No attempt is made after an update's day is over."""
    time, receiver = Time(), Receiver(500, 500)
    async with hooked(receiver, clock=time) as bot:
        time.now += 1
        bot.telegram.say("a")
        time.now += 86_399.5
        await all_delivered(bot)
        assert receiver.got == ["a", "a"]


async def test_a_lost_2xx_repeats_the_update() -> None:
    """If the 2xx gets lost on its way, the update comes again: duplicates are within Telegram's rules."""
    receiver = Receiver()
    async with hooked(receiver, faults=Faults(webhook_repeats=0.5, seed=1)) as bot:
        for number in range(20):
            bot.telegram.say(str(number))
        await all_delivered(bot)
        assert len(receiver.got) > 20
        assert list(dict.fromkeys(receiver.got)) == [str(number) for number in range(20)]


async def test_deleting_the_webhook_stops_deliveries() -> None:
    """After deleteWebhook the update waits for getUpdates."""
    receiver = Receiver()
    async with hooked(receiver) as bot:
        await bot.result("deleteWebhook")
        bot.telegram.say("a")
        assert [update["message"]["text"] for update in await bot.result("getUpdates")] == ["a"]
        assert receiver.got == []


async def test_a_restarted_bot_is_connected_to_again() -> None:
    """A connection that the bot closed is not counted as a failed attempt: the next update goes out over a new one."""
    receiver = Receiver()
    async with hooked(receiver) as bot:
        bot.telegram.say("before")
        await all_delivered(bot)
        await break_off(receiver)
        await bot.result("getMe")  # by then the other end has noticed
        bot.telegram.say("after")
        await all_delivered(bot)
        assert receiver.got == ["before", "after"]
        assert "last_error_message" not in await bot.result("getWebhookInfo")
