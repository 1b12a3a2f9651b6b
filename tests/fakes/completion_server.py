"""A loopback server that talks like vLLM or SGLang, and fails on demand.

It runs in the test's own event loop. What it answers at /v1/completions is a behaviour: a coroutine function that writes the
answer itself, so that it can break off, hang or lie at any byte.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Json


Behaviour = Callable[[SeenRequest, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class CompletionServer:
    """What the server is and what it has seen; a test changes it while it runs."""

    kind: str = "vllm"  # owned_by of its models
    version: str = "0.33.0"
    model: str = "base"
    context: int = 512
    adapters: dict[str, str] = field(default_factory=dict)  # name -> path there
    loadable: set[str] = field(default_factory=set)  # paths that it will load
    behaviours: list[Behaviour] = field(default_factory=list)  # for the next completions, then `tell`
    tokenize: Callable[[str], list[int]] | None = None  # None = no such page
    takes_ids: bool = True
    health: int = 200  # status of /health
    is_down: bool = False  # every connection is dropped without an answer
    keys: set[str] = field(default_factory=set)  # accepted bearer tokens; empty = nobody is asked
    url: str = ""
    seen: list[SeenRequest] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)  # a client left a stream before its end

    def completions(self) -> list[SeenRequest]:
        """The streamed completions that were asked for."""
        return [request for request in self.seen if request.path == "/v1/completions" and request.body.get("stream")]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while (request := await _read_request(reader)) is not None:
                if self.is_down:
                    return
                self.seen.append(request)
                if request.path == "/v1/completions" and request.body.get("stream"):
                    behaviour = self.behaviours.pop(0) if self.behaviours else tell("Hello", " world", "!")
                    watcher = asyncio.create_task(self._watch(reader))
                    try:
                        await behaviour(request, writer)
                    finally:
                        watcher.cancel()
                    return
                status, answer = self._answer(request)
                await send_json(writer, status, answer)
        except ConnectionError:
            self.hung_up.set()
        finally:
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        await reader.read(1)
        self.hung_up.set()

    def _answer(self, request: SeenRequest) -> tuple[int, Json]:  # noqa: PLR0911 - a page each
        body = request.body
        known = not self.keys or request.headers.get("authorization", "").removeprefix("Bearer ") in self.keys
        match request.path:
            case _ if not known:
                return 401, {"error": "Unauthorized"}
            case "/health":
                return self.health, {}
            case "/v1/models":
                cards: list[Json] = [{"id": self.model, "owned_by": self.kind, "root": "/models/base", "max_model_len": self.context}]
                cards += [{"id": name, "owned_by": self.kind, "root": path, "parent": self.model} for name, path in self.adapters.items()]
                return 200, {"object": "list", "data": cards}
            case "/version" if self.kind == "vllm":
                return 200, {"version": self.version}
            case "/v1/completions":
                return 200, {"choices": [{"text": "x"}], "usage": {"prompt_tokens": len(body["prompt"]) if self.takes_ids else 7}}
            case "/tokenize" if self.tokenize is not None:
                return 200, {"tokens": self.tokenize(body["prompt"])}
            case "/v1/load_lora_adapter" | "/load_lora_adapter" if body["lora_path"] in self.loadable:
                self.adapters[body["lora_name"]] = body["lora_path"]
                return 200, {}
        return 404, {"detail": "Not Found"}


async def _read_request(reader: asyncio.StreamReader) -> SeenRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return SeenRequest(lines[0].split(" ")[1], headers, json.loads(data) if data else {})


async def send_json(writer: asyncio.StreamWriter, status: int, answer: Json, headers: str = "") -> None:
    """Answer with JSON; the connection stays open."""
    data = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def begin_stream(writer: asyncio.StreamWriter, content_type: str = "text/event-stream; charset=utf-8") -> None:
    """Send the head of an answer that ends with its connection."""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()


async def send_event(writer: asyncio.StreamWriter, data: Json | str) -> None:
    """Send one server-sent event."""
    writer.write(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())
    await writer.drain()


def choice(text: str, reason: str | None = None) -> Json:
    """One chunk of a completion."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}


def tell(*texts: str, reason: str = "stop", usage: Json | None = None) -> Behaviour:
    """Stream the texts to a good end."""

    async def behaviour(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        for text in texts:
            await send_event(writer, choice(text))
        await send_event(writer, choice("", reason))
        counts = {"prompt_tokens": len(request.body["prompt"]), "completion_tokens": len(texts)}
        await send_event(writer, {"choices": [], "usage": counts | (usage or {})})
        await send_event(writer, "[DONE]")

    return behaviour


def refuse(status: int, message: str = "no", headers: str = "") -> Behaviour:
    """Answer with an error before the stream begins."""

    async def behaviour(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await send_json(writer, status, {"error": {"message": message, "code": status}}, headers)

    return behaviour


def then(texts: Sequence[str], last: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> Behaviour:
    """Stream the texts, then do `last` instead of ending well."""

    async def behaviour(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        for text in texts:
            await send_event(writer, choice(text))
        await last(writer)

    return behaviour


async def cut(_: asyncio.StreamWriter) -> None:
    """End the connection as if all were said."""


async def reset(writer: asyncio.StreamWriter) -> None:
    """Tear the connection: the client sees a reset, not an end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(_: asyncio.StreamWriter) -> None:
    """Say nothing more for as long as the client waits."""
    await asyncio.Event().wait()


def say(data: Json | str) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Send one more event, whatever it is, and end the connection."""

    async def last(writer: asyncio.StreamWriter) -> None:
        await send_event(writer, data)

    return last


@asynccontextmanager
async def completion_server(port: int = 0, **settings: Any) -> AsyncIterator[CompletionServer]:
    """Run a server for the length of the block."""
    state = CompletionServer(**settings)
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await state.handle(reader, writer)
        except asyncio.CancelledError:  # the server goes: that is no error of the test
            return
        finally:
            running.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
