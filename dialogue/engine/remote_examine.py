"""Looks at a server before anything is sent to it: what it is, whether it takes token ids, whether it cuts text as we do."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog

from dialogue.engine.remote_call import read_at_most
from dialogue.engine.remote_servers import Json, ServerFacts, ServerKind, facts_from, is_old, tokenize_body
from dialogue.errors import EngineUnavailable

log = structlog.get_logger(__name__)

Encode = Callable[[str], Sequence[int]]

MAX_ANSWER_BYTES = 4 << 20
PROBE_IDS = (1, 2, 3)  # any ids will do: the answer is thrown away, the count is looked at
PROBE_TEXTS = (
    "Hello, how can I help you today?",
    "  two  spaces,\ttab\r\nand\n\nlines ",
    "订单号 2024-0815，什么时候发货？",
    "naïve café, straße, Ελλάδα, привет, こんにちは, 🙂👩‍👩‍👧",
    "1234567890 3.14159 $12,345.67 100%",
    "def f(x):\n    return {'a': [x ** 2, \"b\"]}  # why?",
    "https://example.org/a?b=c&d=%20e#f user.name+tag@example.org",
)


class ServerProbe:
    """Asks one server about itself. Errors are EngineUnavailable with what is wrong, without the server's name."""

    def __init__(self, client: httpx2.AsyncClient, url: str, label: str, model: str) -> None:
        self._client = client
        self._url = url
        self._label = label
        self._model = model

    async def examine(self, encode: Encode | None) -> ServerFacts:
        """Return the server's facts if it can serve. Raises EngineUnavailable."""
        facts = await self.facts()
        await self._check_ids()
        if encode is not None:
            await self._check_tokenizer(facts, encode)
        if is_old(facts):
            log.warning("remote_server_old", server=self._label, version=facts.version)
        log.info("remote_server_examined", server=self._label, kind=str(facts.kind), context_tokens=facts.context_tokens, slots=facts.slots)
        return facts

    async def facts(self) -> ServerFacts:
        """Return what the server says of itself now. Raises EngineUnavailable."""
        models = await self._get("/v1/models")
        if models is None:
            raise EngineUnavailable("has no page /v1/models: it is not vLLM, SGLang or llama.cpp")
        props, version = await self._get("/props") or {}, await self._get("/version") or {}
        return facts_from(models, self._model, props, version, await self._loras())

    async def _check_ids(self) -> None:
        """Refuse a server that takes token ids for something else."""
        body = {"model": self._model, "prompt": PROBE_IDS, "max_tokens": 1, "temperature": 0}
        answer = await self._ask("POST", "/v1/completions", body)
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict) or usage.get("prompt_tokens") != len(PROBE_IDS):
            raise EngineUnavailable("does not take token ids at /v1/completions; Kefu needs vLLM, SGLang or llama.cpp")

    async def _check_tokenizer(self, facts: ServerFacts, encode: Encode) -> None:
        for text in PROBE_TEXTS:
            answer = await self._ask("POST", "/tokenize", tokenize_body(facts.kind, self._model, text))
            if not isinstance(answer, dict) or not isinstance(answer.get("tokens"), list):
                log.warning("remote_tokenizer_unchecked", server=self._label)
                return
            if answer["tokens"] != list(encode(text)):
                raise EngineUnavailable(
                    f"cuts text into other tokens than remote.tokenizer does (first seen at {text!a}): name the model's own"
                )

    async def _loras(self) -> list[Json]:
        answer = await self._ask("GET", "/lora-adapters")
        return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []

    async def _get(self, path: str) -> Json | None:
        answer = await self._ask("GET", path)
        return answer if isinstance(answer, dict) else None

    async def _ask(self, method: str, path: str, body: Json | None = None) -> Any:
        """Return the JSON of an answer; None for an optional page that is not there, not for us or no JSON."""
        status, data = await _exchange(self._client, method, self._url + path, body)
        if path.startswith("/v1/") and status in {401, 403}:
            raise EngineUnavailable(f"refuses the key ({status} at {path}); it is remote.api_key")
        if path.startswith("/v1/") and status >= 500:
            raise EngineUnavailable(f"answered {status} at {path}")
        try:
            return json.loads(data) if status == httpx2.codes.OK else None
        except ValueError:
            return None


async def check_health(client: httpx2.AsyncClient, url: str) -> None:
    """Ask a server how it is; a proxy that hides the page is content too. Raises EngineUnavailable."""
    status, _ = await _exchange(client, "GET", f"{url}/health", None)
    if status >= 500:
        raise EngineUnavailable(f"answered {status} at /health")


async def load_adapter_there(client: httpx2.AsyncClient, url: str, kind: ServerKind, name: str, path: str) -> bool:
    """Ask a server to load an adapter from its own folder `path`; return whether it did. Raises EngineUnavailable."""
    page = "/v1/load_lora_adapter" if kind is ServerKind.VLLM else "/load_lora_adapter"
    status, data = await _exchange(client, "POST", url + page, {"lora_name": name, "lora_path": path})
    return status == httpx2.codes.OK or b"already" in data


async def _exchange(client: httpx2.AsyncClient, method: str, url: str, body: Json | None) -> tuple[int, bytes]:
    """Return status and body of an answer. Raises EngineUnavailable."""
    try:
        async with client.stream(method, url, json=body) as response:
            return response.status_code, await read_at_most(response, MAX_ANSWER_BYTES)
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise EngineUnavailable(f"does not answer at {urlsplit(url).path} ({type(error).__name__})") from None
