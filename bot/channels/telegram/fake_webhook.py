"""Sending updates to a webhook: the next one of a chat only after the previous got a 2xx, retries with growing pauses."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from bot.channels.telegram.fake_state import State
from bot.channels.telegram.fake_updates import Update

ANSWER_TIMEOUT_S = 60.0
LONGEST_PAUSE_S = 60.0
LONGEST_RETRY_AFTER_S = 3600

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class WebhookSender:
    """Sends what waits, over at most `max_connections` connections. `pace` scales the pauses."""

    def __init__(self, state: State, *, pace: float, repeats: Callable[[], bool]) -> None:
        self._state = state
        self._pace = pace
        self._repeats = repeats
        self._sending: set[int] = set()  # webhook queues at work
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[tuple[str, Link]] = []  # with the URL that they lead to
        state.listeners.append(self._start_tasks)

    async def stop(self) -> None:
        """Break off what is under way."""
        self._state.listeners.remove(self._start_tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, (_, writer) in self._idle:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _start_tasks(self) -> None:
        webhook = self._state.webhook
        while webhook and len(self._tasks) < webhook["max_connections"]:
            update = self._state.updates.first_unsent(self._sending)
            if update is None:
                return
            self._sending.add(update.queue)
            task = asyncio.get_running_loop().create_task(self._deliver(update))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()
            self._state.changed()

    async def _deliver(self, update: Update) -> None:
        """Send an update again and again until it got a 2xx, its time is over or the webhook is gone."""
        failures = 0
        try:
            while self._state.webhook:
                status, retry_after = await self._post(update)
                if 200 <= status <= 299 and not self._repeats():
                    self._state.updates.forget(update)
                    return
                if not await self._pause(update, failures, retry_after):
                    return
                failures += 1
        finally:
            self._sending.discard(update.queue)

    async def _pause(self, update: Update, failures: int, retry_after: int) -> bool:
        """Wait until the next attempt; return whether there is one. The first is immediate, then 2, 4, 8 … s."""
        pause_s = (
            float(min(retry_after, LONGEST_RETRY_AFTER_S)) if retry_after else 0.0 if failures == 0 else min(2.0**failures, LONGEST_PAUSE_S)
        )
        if self._state.now() + pause_s >= update.expires_at:
            self._state.updates.forget(update)
            return False
        await asyncio.sleep(pause_s * self._pace)
        return True

    async def _post(self, update: Update) -> tuple[int, int]:
        """Return the status and the Retry-After; a status of 0 stands for no answer."""
        webhook = self._state.webhook
        link: Link | None = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                link = self._idle_link(webhook["url"]) or await _connect(webhook["url"])
                link[1].write(_request(webhook["url"], webhook["secret"], update.raw))
                status, retry_after, keeps = await _response(link[0])
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self._note_error(f"Webhook connection closed: {error}")
            _close(link)
            return 0, 0
        except BaseException:
            _close(link)
            raise
        if keeps:
            self._idle.append((webhook["url"], link))
        else:
            _close(link)
        if not 200 <= status <= 299:
            self._note_error(f"Wrong response from the webhook: {status}")
        return status, retry_after

    def _idle_link(self, url: str) -> Link | None:
        """Return a connection that leads to the webhook and is still open."""
        while self._idle:
            where, link = self._idle.pop()
            if where == url and not link[0].at_eof():
                return link
            _close(link)
        return None

    def _note_error(self, message: str) -> None:
        if self._state.webhook:
            self._state.webhook |= {"last_error_date": self._state.date(), "last_error_message": message}


def _close(link: Link | None) -> None:
    if link is not None:
        link[1].close()


async def _connect(url: str) -> Link:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port or 80)


def _request(url: str, secret: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secret_line = f"X-Telegram-Bot-Api-Secret-Token: {secret}\r\n" if secret else ""
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n{secret_line}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _response(reader: asyncio.StreamReader) -> tuple[int, int, bool]:
    """Return the status, the Retry-After and whether the connection can be used again."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = {name.lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines if line)}
    if b"content-length" in headers:
        await reader.readexactly(int(headers[b"content-length"]))
    keeps = headers.get(b"connection") != b"close" and b"content-length" in headers
    retry_after = headers.get(b"retry-after", b"")
    return int(first.split(b" ")[1]), int(retry_after) if retry_after.isdigit() else 0, keeps
