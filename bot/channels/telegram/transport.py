"""HTTP to the Bot API: the library's `Bot` calls through here, and so do the calls that are made often, past the library.

On httpx2 a call costs a quarter of the processor time that it costs on the library's own transport. Calls that are made often go
straight to its connections: what a client adds to them (redirects, cookies, authentication) costs a third and serves nothing here;
only through a proxy they take the client, which knows the rules of proxies. Every failure leaves as
one of three errors (errors.py). None of them carries the URL, which holds the token, nor the error of the HTTP client, which
carries the URL: they are raised after the client's error has been handled, so that nothing is chained.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2
from telegram.request import BaseRequest, RequestData

from bot.channels.telegram.errors import NotSent, Refusal, Unanswered

KEEP_ALIVE_S: Final = 30.0
CONNECT_S: Final = 5.0
UPLOAD_S: Final = 60.0
DEFAULT_AFTER_S: Final = 1.0  # of a 429 that names no time

_BEFORE: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)
_JSON: Final = {"Content-Type": "application/json"}


class Transport(BaseRequest):
    """Kept-alive connections to one server. `call` takes the name of a method, `fetch` a path below the URL of files."""

    def __init__(self, base_url: str, token: str, *, timeout_s: float, connections: int) -> None:
        self._timeout_s = timeout_s
        self._methods_url = f"{base_url}/bot{token}/"
        self._files_url = f"{base_url}/file/bot{token}/"
        self._limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_S)
        self._uses_proxies = urlsplit(base_url).hostname not in {"127.0.0.1", "::1", "localhost"} and bool(getproxies())
        self._client: httpx2.AsyncClient | None = None
        self._connections: httpx2.AsyncHTTPTransport | None = None  # the client's own, if no proxy stands between

    @property
    def read_timeout(self) -> float | None:
        return self._timeout_s

    async def initialize(self) -> None:
        if self._client is None:
            self._connections = None if self._uses_proxies else httpx2.AsyncHTTPTransport(limits=self._limits)
            self._client = httpx2.AsyncClient(transport=self._connections, limits=self._limits, timeout=self._timeouts())

    async def shutdown(self) -> None:
        client, self._client, self._connections = self._client, None, None
        if client is not None:
            await client.aclose()

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """Return the result of a method. Raises Refusal, NotSent and Unanswered."""
        return _result(await self.call_raw(method, params))

    async def call_raw(self, method: str, params: Mapping[str, Any], *, wait_s: float = 0.0) -> bytes:
        """Return the whole answer of a method, which may hold it back for `wait_s`. Raises Refusal, NotSent and Unanswered."""
        content = json.dumps(params).encode()  # ASCII: no text can break it
        timeout = self._timeouts(read_s=wait_s + self._timeout_s if wait_s else None)
        code, body = await self._post(self._methods_url + method, content, timeout)
        if code != 200:
            raise _refusal(method, code, body)
        return body

    async def fetch(self, path: str, max_bytes: int) -> bytes | None:
        """Return the content of a file, None if it is bigger than `max_bytes`. Raises Refusal, NotSent and Unanswered."""
        failure: Exception
        try:
            async with self._opened.stream("GET", self._files_url + path) as response:
                if response.status_code == 200:
                    return await _read(response, max_bytes)
                failure = Refusal("file", response.status_code, "the file cannot be read")
        except httpx2.HTTPError as error:
            failure = _failure(error)
        raise failure

    async def do_request(  # noqa: PLR0917 - the library's signature
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = None,  # noqa: ARG002
        write_timeout: Any = None,  # noqa: ARG002
        connect_timeout: Any = None,  # noqa: ARG002
        pool_timeout: Any = None,  # noqa: ARG002
    ) -> tuple[int, bytes]:
        """The library calls this. Time-outs are ours alone."""
        name = url.rpartition("/")[2]
        if request_data is not None and request_data.contains_files:
            form: dict[str, Any] = {"data": request_data.json_parameters, "files": request_data.multipart_data}
            code, body = await self._send(method, url, self._timeouts(write_s=UPLOAD_S), **form)
        else:
            parameters = request_data.parameters if request_data is not None else {}
            code, body = await self._send(method, url, None, json=parameters)
        if code != 200:
            raise _refusal(name, code, body)
        _result(body)
        return code, body

    async def _post(self, url: str, content: bytes, timeout: httpx2.Timeout) -> tuple[int, bytes]:
        if self._connections is None:
            return await self._send("POST", url, timeout, content=content, headers=_JSON)
        request = httpx2.Request("POST", _parsed(url), headers=_JSON, content=content, extensions={"timeout": timeout.as_dict()})
        try:
            response = await self._connections.handle_async_request(request)
            try:
                return response.status_code, await response.aread()
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            failure = _failure(error)
        raise failure

    async def _send(self, verb: str, url: str, timeout: httpx2.Timeout | None, **content: Any) -> tuple[int, bytes]:
        given: dict[str, Any] = content if timeout is None else {**content, "timeout": timeout}
        try:
            response = await self._opened.request(verb, url, **given)
        except httpx2.HTTPError as error:
            failure = _failure(error)
        else:
            return response.status_code, response.content
        raise failure

    @property
    def _opened(self) -> httpx2.AsyncClient:
        if self._client is None:
            raise RuntimeError("nothing is called before the channel is open")
        return self._client

    def _timeouts(self, *, read_s: float | None = None, write_s: float | None = None) -> httpx2.Timeout:
        before_s = min(CONNECT_S, self._timeout_s)
        return httpx2.Timeout(connect=before_s, pool=before_s, read=read_s or self._timeout_s, write=write_s or self._timeout_s)


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx2.URL:
    return httpx2.URL(url)


def _failure(error: httpx2.HTTPError) -> NotSent | Unanswered:
    """Say how far the request came. The text of the client's error is not repeated: it may hold the URL."""
    name = type(error).__name__
    if isinstance(error, _BEFORE):
        return NotSent(f"no connection to Telegram ({name})")
    return Unanswered(f"no answer from Telegram ({name})")


def _result(body: bytes) -> Any:
    answer = _object(body)
    if answer.get("ok") is not True or "result" not in answer:
        raise Unanswered("an answer from Telegram that cannot be read")
    return answer["result"]


def _refusal(method: str, code: int, body: bytes) -> Refusal:
    answer = _object(body)
    found = answer.get("parameters")
    parameters: dict[str, Any] = found if isinstance(found, dict) else {}
    after_s = float(parameters.get("retry_after") or DEFAULT_AFTER_S) if code == 429 else None
    description = str(answer.get("description") or "no description")
    return Refusal(method, code, description, after_s=after_s, moved_to=str(parameters.get("migrate_to_chat_id") or ""))


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; {} for the page of a proxy."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


async def _read(response: httpx2.Response, max_bytes: int) -> bytes | None:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > max_bytes:
            return None
    return bytes(content)
