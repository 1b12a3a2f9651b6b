"""A Bot API server on the loopback that behaves as badly as the real one: for tests of this bot, and of anybody's.

`FakeTelegram` is both sides: the bot talks HTTP to `base_url`, the test writes, presses and reads as people do. docs/fake-telegram.md lists
what it claims, and why. As a process: `python -m bot.channels.telegram.fake_server --port 0` prints its URL.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

from bot.channels.telegram.fake_api import Api, Reply
from bot.channels.telegram.fake_body import BodyRefused, Form, parse_body
from bot.channels.telegram.fake_chats import Call
from bot.channels.telegram.fake_control import control
from bot.channels.telegram.fake_faults import Fault, FaultKind, Faults
from bot.channels.telegram.fake_http import Connection, Request
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_load import Load
from bot.channels.telegram.fake_params import Params
from bot.channels.telegram.fake_people import People
from bot.channels.telegram.fake_poll import Poller
from bot.channels.telegram.fake_state import State
from bot.channels.telegram.fake_webhook import WebhookSender

TOKEN = "123456789:AAFakeTokenForTestsOnly-0123456789abcd"  # noqa: S105 - of no real bot


class FakeTelegram(People):
    """`async with FakeTelegram() as telegram:` serves; `limits` and `faults` say how bad it is.

    `pace` scales the pauses that Telegram makes by itself (retries of a webhook, a repeated 409), not those that the bot asks for.
    `transcript_size` is how many calls are remembered; all, if not given.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        username: str = "kefu_bot",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        faults: Faults | None = None,
        api_version: str = "10.4",
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        port: int = 0,
        pace: float = 1.0,
        transcript_size: int | None = None,
    ) -> None:
        super().__init__(State(token=token, username=username, limits=limits, clock=clock, seed=seed, transcript_size=transcript_size))
        self.faults = faults or Faults(seed=seed)
        self._api = Api(self, self.faults, version=api_version, later=_later)
        self._poller = Poller(self.state, later=_later, pace=pace, refuse=lambda code, text: self._api.refuse("getupdates", code, text))
        self._pace = pace
        self._port = port
        self._server: asyncio.Server | None = None
        self._webhooks: WebhookSender | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self.state.listeners.append(self._notify)
        self._load = Load(self)

    async def __aenter__(self) -> Self:
        await self.up()
        self._webhooks = WebhookSender(self.state, pace=self._pace, repeats=self.faults.repeats_webhook)
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
        if self._webhooks is not None:
            await self._webhooks.stop()
        await self.down()

    @property
    def token(self) -> str:
        return self.state.token

    @property
    def base_url(self) -> str:
        """What stands before "/bot<token>/<method>" and "/file/bot<token>/<path>"."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_polled(self) -> bool:
        """Whether a getUpdates waits."""
        return self._poller.is_waiting

    @property
    def is_up(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    async def up(self) -> None:
        """Take connections; after `down` on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._handle, self._connections), "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.state.changed()

    async def down(self) -> None:
        """Refuse connections and break those that are open. What is known stays known."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)  # the broken connections are told now
        self._server = None
        self.state.changed()

    def down_for(self, seconds: float) -> None:
        """Refuse connections for a while."""
        self._restarting = asyncio.get_running_loop().create_task(self._restart(seconds))

    async def changed(self) -> None:
        """Wait until anything happens."""
        await self._changed.wait()

    def settle(self) -> int:
        """Let every call that was to take effect late take effect now; return how many there were."""
        return self._api.settle()

    def revoke_token(self) -> str:
        """The owner asks BotFather for a new token; return it. The old one is refused from now on."""
        identity, _, secret = self.state.token.partition(":")
        self.set_token(f"{identity}:{secret[1:]}{secret[0]}")
        return self.state.token

    def set_token(self, token: str) -> None:
        """Only this token is taken from now on."""
        self.state.token = token

    def set_limits(self, **limits: Any) -> None:
        """Change single limits from now on; without arguments lift all."""
        self.state.limiter.limits = replace(self.state.limiter.limits, **limits) if limits else Limits.none()

    def script_fault(self, method: str, faults: list[dict[str, Any] | None]) -> None:
        """`Faults.script` for another process."""
        self.faults.script(method, *(None if fault is None else Fault(FaultKind(fault.pop("kind")), **fault) for fault in faults))

    def lost_formatting(self) -> list[tuple[int, str]]:
        """Return chat and text of every message whose entities Telegram would have dropped or moved without an error."""
        return self.state.lost_formatting

    def commands(self) -> Mapping[str, list[dict[str, Any]]]:
        """Return the menus of commands by scope and language."""
        return self.state.commands

    def load_begin(self, **load: Any) -> None:
        """Put a load on the bot; see `fake_load.Load.begin`."""
        self._load.begin(**load)

    def load_done(self) -> bool:
        """Whether the whole load is answered."""
        return self._load.is_done()

    def load_result(self, **wanted: Any) -> dict[str, Any]:
        """Return what came of the load; see `fake_load.Load.result`."""
        return self._load.result(**wanted)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _restart(self, seconds: float) -> None:
        if self._server is None:
            return
        await self.down()
        await asyncio.sleep(seconds)
        await self.up()

    def _handle(self, request: Request) -> None:
        path, _, query = request.target.partition("?")
        if path.startswith("/_fake/"):
            code, body = control(self, path.removeprefix("/_fake/"), request.body)
            request.connection.reply(code, body)
        elif path.startswith("/file/bot"):
            self._send_file(request.connection, path.removeprefix("/file/bot"))
        elif path.startswith("/bot"):
            token, _, method = path.removeprefix("/bot").partition("/")
            self._call(request, token, method.lower(), query)
        else:
            _send(request.connection, self._api.refuse(path, 404, "Not Found"))

    def _call(self, request: Request, token: str, method: str, query: str) -> None:
        if token.replace("%3A", ":") != self.state.token:
            _send(request.connection, self._api.refuse(method, 401, "Unauthorized"))
            return
        try:
            form = parse_body(request.headers.get(b"content-type", b""), request.body, query)
        except BodyRefused as refused:
            _send(request.connection, self._api.refuse(method, 400, f"Bad Request: {refused}"))
            return
        if method == "getupdates":
            self._poll(request.connection, form)
        else:
            self._answer(request.connection, self._api.call(method, Params(form.values, form.uploads)))

    def _answer(self, connection: Connection, reply: Reply) -> None:
        _send(connection, reply)
        if reply.fault is not None and reply.fault.kind is FaultKind.DOWN:
            self.down_for(reply.fault.after_s)

    def _poll(self, connection: Connection, form: Form) -> None:
        params, fault = Params(form.values, form.uploads), self.faults.next("getupdates")
        refusal = self._api.refusal("getupdates", params, fault)
        if refusal is not None:
            self._answer(connection, refusal)
            return

        def answer(reply: Reply) -> None:
            if reply.code == 200:
                self.state.transcript.append(
                    Call(self.state.now(), "getupdates", 0, form.values, "ok", 200, fault=str(fault.kind) if fault else "")
                )
            _send(connection, replace(reply, fault=fault))

        connection.on_lost = self._poller.poll(params, answer)

    def _send_file(self, connection: Connection, target: str) -> None:
        token, _, path = target.partition("/")
        content = next((content for known, content in self.state.files.values() if known == path), None)
        if token.replace("%3A", ":") != self.state.token or content is None:
            _send(connection, self._api.refuse("file", 404, "Not Found"))
        else:
            connection.reply(200, content, content_type="application/octet-stream")


def _send(connection: Connection, reply: Reply) -> None:
    match None if reply.fault is None else reply.fault.kind:
        case FaultKind.LOST | FaultKind.LATE | FaultKind.BROKEN | FaultKind.DOWN:
            connection.abort()
        case FaultKind.HANG | FaultKind.LATE_HANG:
            pass
        case FaultKind.TRUNCATED:
            _write(connection, reply, keep=len(reply.body) // 2)
        case FaultKind.SLOW if reply.fault is not None:
            _later(reply.fault.after_s, lambda: _write(connection, reply))
        case _:
            _write(connection, reply)


def _write(connection: Connection, reply: Reply, *, keep: int | None = None) -> None:
    connection.reply(reply.code, reply.body, content_type=reply.content_type, retry_after=reply.retry_after, keep=keep)


def _later(seconds: float, action: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, action)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fake Telegram Bot API server for tests. Prints its URL.")
    add = parser.add_argument
    add("--port", type=int, default=0, help="where to listen on 127.0.0.1; 0 = any free port")
    add("--seed", type=int, default=0, help="of the random faults")
    add("--token", default=TOKEN, help="the only token that is taken")
    add("--username", default="kefu_bot", help="name of the bot")
    add("--api-version", default="10.4", help="what the server knows: a Bot API version")
    add("--pace", type=float, default=1.0, help="scales the pauses that Telegram makes by itself; 0 = none")
    add("--no-limits", action="store_true", help="lift the limits of rate and size")
    add("--webhook-repeats", type=float, default=0.0, metavar="RATE", help="share of the webhook's updates that come twice")
    add("--transcript", type=int, default=None, metavar="N", help="how many calls are remembered; all, if not given")
    add("--fault", action="append", default=[], metavar="KIND=RATE[:AFTER_S]", help="for example lost=0.05 or busy=0.01:5")
    return parser.parse_args()


def _rate(argument: str) -> tuple[FaultKind | Fault, float]:
    kind, _, rest = argument.partition("=")
    rate, _, after_s = rest.partition(":")
    return Fault(FaultKind(kind), float(after_s or 1)), float(rate)


async def _serve(arguments: argparse.Namespace) -> None:
    rates = dict(_rate(fault) for fault in arguments.fault)
    telegram = FakeTelegram(
        token=arguments.token,
        username=arguments.username,
        limits=Limits.none() if arguments.no_limits else Limits(),
        faults=Faults(rates, seed=arguments.seed, webhook_repeats=arguments.webhook_repeats),
        api_version=arguments.api_version,
        seed=arguments.seed,
        port=arguments.port,
        pace=arguments.pace,
        transcript_size=arguments.transcript,
    )
    async with telegram:
        print(telegram.base_url, flush=True)  # noqa: T201 - whoever started this reads it
        await asyncio.Event().wait()


def _main() -> None:
    arguments = _arguments()
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        sys.exit(f"Port {arguments.port} cannot be listened on: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    _main()
