"""Any server that speaks OpenAI's completions: POST /v1/completions with token ids, answered by server-sent events."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from dialogue.engine.bench.samples import UNKNOWN, Answer, Ask
from dialogue.engine.bench.settings import ArmSettings
from dialogue.errors import EngineUnavailable

CONNECT_S = 10.0
MOST_WORDS = 300  # of a server's own in an error


class UrlArm:
    """Asks a server directly, without the engine `remote` between."""

    def __init__(self, url: str, model: str = "", api_key: str = "") -> None:
        """`model` "" = the first one that the server names."""
        self._url = url.rstrip("/").removesuffix("/v1")
        self._model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx2.Limits(max_connections=None)
        self._client = httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(None, connect=CONNECT_S), limits=limits, trust_env=False)

    async def start(self) -> dict[str, Any]:
        try:
            answer = await self._client.get(f"{self._url}/v1/models")
            answer.raise_for_status()
            cards = answer.json()["data"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            said = str(error).partition("\n")[0]
            raise EngineUnavailable(f"{self._url} does not answer at /v1/models as OpenAI's servers do ({said})") from error
        self._model = self._model or str(cards[0]["id"])
        return {"engine": "url", "url": self._url, "model": self._model, "owned_by": str(cards[0].get("owned_by", ""))}

    async def answer(self, ask: Ask) -> Answer:
        arrivals: list[float] = []
        texts: list[str] = []
        usage: dict[str, Any] = {}
        async for chunk in self._chunks(self._body(ask)):
            text = "".join(choice.get("text") or "" for choice in chunk.get("choices") or ())
            if text:
                arrivals.append(time.perf_counter())
                texts.append(text)
            usage = chunk.get("usage") or usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", UNKNOWN)
        return Answer(tuple(arrivals), time.perf_counter(), usage.get("completion_tokens", len(texts)), "".join(texts), cached)

    async def close(self) -> None:
        await self._client.aclose()

    def _body(self, ask: Ask) -> dict[str, Any]:
        return {
            "model": ask.adapter or self._model,
            "prompt": list(ask.prompt),
            "max_tokens": ask.reply_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def _chunks(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the server's chunks. Raises EngineUnavailable with its own words."""
        try:
            async with self._client.stream("POST", f"{self._url}/v1/completions", json=body) as answer:
                if answer.status_code != httpx2.codes.OK:
                    said = (await answer.aread()).decode(errors="replace")[:MOST_WORDS]
                    raise EngineUnavailable(f"{self._url} answers {answer.status_code}: {said}")
                async for line in answer.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if line.startswith("data:") and data != "[DONE]":
                        yield self._whole(json.loads(data))
        except (httpx2.HTTPError, ValueError) as error:
            raise EngineUnavailable(f"{self._url} broke off: {error}") from error

    def _whole(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Return a chunk that tells of no error. Raises EngineUnavailable."""
        if error := chunk.get("error"):
            raise EngineUnavailable(f"{self._url} ended a stream with an error: {str(error)[:MOST_WORDS]}")
        return chunk


def build(settings: ArmSettings) -> UrlArm:
    """Return the arm of the address in the options."""
    options = settings.options
    return UrlArm(options["url"], options.get("model", ""), options.get("api_key", ""))
