"""The servers that take token ids at /v1/completions, and how they differ. Pure: values in, values out.

vllm       adapter by model name, loaded at /v1/load_lora_adapter; cache_salt separates the prefix caches of conversations
sglang     adapter by lora_path, loaded at /load_lora_adapter; cache_salt as well
llamacpp   adapter by number and scale, loaded at its start only; slots and context are told at /props
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from dialogue.engine import llama_request
from dialogue.engine.base import AdapterRef, GenerationRequest
from dialogue.errors import AdapterRejected, AdapterUnknown, EngineError, EngineOverloaded, EngineUnavailable, RequestTooLong

Json = dict[str, Any]


class ServerKind(StrEnum):
    """What `owned_by` in /v1/models says."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"


ASSUMED_SLOTS = 64  # vLLM and SGLang batch as their memory allows and do not say how much that is
OLDEST_GOOD_VLLM = (0, 33)  # before that: known holes (cross-request token bleed, requests that end the engine)
DEFAULT_RETRY_S = 5.0
LONGEST_WORDS = 200  # of a server's own words in an error
OF_THE_SERVER = frozenset({401, 403, 404, 408, 429})  # another server may answer these better; the other 4xx are the request's own fault

_TOO_LONG = re.compile(r"context (length|size|window)|exceed_context_size|maximum.{0,20}length|longer than", re.IGNORECASE)
_ADAPTER = re.compile(r"lora|adapter|model .{0,200}does not exist", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server said of itself when it was examined."""

    kind: ServerKind
    version: str  # empty = it does not say
    context_tokens: int  # prompt and completion together, per request
    slots: int
    identity: str  # what it says of the model, for the record
    loras: Mapping[str, str]  # name of an adapter that it has -> its path there
    lora_numbers: Mapping[str, int]  # the same, llama.cpp's numbers


def facts_from(models: Json, model: str, props: Json, version: Json, loras: list[Json]) -> ServerFacts:
    """Put together what the server answered; empty objects stand for pages that it lacks. Raises EngineUnavailable."""
    cards = [card for card in models.get("data", []) if isinstance(card, dict)]
    owner = str(cards[0].get("owned_by", "")) if cards else ""
    if owner not in set(ServerKind):
        raise EngineUnavailable(
            f"is not vLLM, SGLang or llama.cpp (it calls itself {owner[:40]!a}); Kefu cannot be sure that it takes token ids"
        )
    kind = ServerKind(owner)
    named = [card for card in cards if card.get("id") == model]
    if kind is ServerKind.LLAMACPP:
        return _llamacpp_facts(cards[0], props, loras)
    if not named:
        offered = ", ".join(str(card.get("id"))[:80] for card in cards[:5])
        raise EngineUnavailable(f"does not serve {model!a}, but {offered!a}")
    context = named[0].get("max_model_len")
    if not isinstance(context, int):
        raise EngineUnavailable("does not say how long its context is (max_model_len in /v1/models)")
    names = {str(card.get("id")): str(card.get("root") or "") for card in cards if card.get("parent")}
    return ServerFacts(kind, str(version.get("version", ""))[:40], context, ASSUMED_SLOTS, str(named[0].get("root")), names, {})


def _llamacpp_facts(card: Json, props: Json, loras: list[Json]) -> ServerFacts:
    meta = card.get("meta") or {}
    context = (props.get("default_generation_settings") or {}).get("n_ctx") or meta.get("n_ctx")
    if not isinstance(context, int):
        raise EngineUnavailable("does not say how long its context is (n_ctx in /props)")
    identity = str({key: meta.get(key) for key in ("n_params", "size", "n_vocab", "ftype")})
    paths = {int(entry["id"]): PurePosixPath(str(entry["path"])) for entry in loras if "id" in entry and "path" in entry}
    numbers = _unambiguous([(name, number) for number, path in paths.items() for name in {path.stem, path.parent.name}])
    names = {name: str(paths[number]) for name, number in numbers.items()}
    slots = props.get("total_slots")
    version = str(props.get("build_info", ""))[:40]
    return ServerFacts(ServerKind.LLAMACPP, version, context, slots if isinstance(slots, int) else 1, identity, names, numbers)


def _unambiguous(names: list[tuple[str, int]]) -> dict[str, int]:
    """Return the names that belong to one adapter only: releases/r7.gguf is called r7, r7/adapter.gguf as well."""
    every = Counter(name for name, _ in names)
    return {name: number for name, number in names if every[name] == 1}


def is_old(facts: ServerFacts) -> bool:
    """Whether this is a vLLM with known holes."""
    numbers = re.match(r"v?(\d+)\.(\d+)", facts.version)
    return facts.kind is ServerKind.VLLM and numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST_GOOD_VLLM


def adapter_handle(facts: ServerFacts, adapter: AdapterRef, expected_path: str) -> object | None:
    """Return what the server calls an adapter that it has; None when it has none of this name. Raises AdapterRejected."""
    if adapter.name not in facts.loras:
        return None
    if facts.kind is ServerKind.LLAMACPP:
        return (facts.lora_numbers[adapter.name], adapter.scale)
    if adapter.scale != 1.0:
        raise AdapterRejected(f"{facts.kind} applies adapters at scale 1 only; {adapter.name} asks for {adapter.scale:g}.")
    if expected_path and facts.loras[adapter.name] not in {"", expected_path}:
        raise AdapterRejected(f"The server knows another adapter under the name {adapter.name}.")
    return adapter.name


def completion_body(facts: ServerFacts, model: str, request: GenerationRequest, handle: object | None, cache_salt: str) -> Json:
    """Return the JSON that asks for this generation; `handle` is what adapter_handle() gave, None for the base model."""
    sampling = request.sampling
    body: Json = {
        "model": model,
        "prompt": request.prompt,
        "max_tokens": min(sampling.max_tokens, facts.context_tokens - len(request.prompt)),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if facts.kind is ServerKind.LLAMACPP:
        # Stop strings are looked for here: it would swallow one that has only begun when the limit is reached.
        own = {"cache_prompt": True, "lora": _every_lora(facts, handle), "timings_per_token": bool(sampling.stop)}
        return body | own | llama_request.sampling(sampling)
    body |= {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": 0.0,  # servers have their own defaults
        "repetition_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "ignore_eos": sampling.ignore_eos,
        "cache_salt": cache_salt,
    }
    if sampling.stop:
        body["stop"] = sampling.stop
    if handle is not None:
        body |= {"model": handle} if facts.kind is ServerKind.VLLM else {"lora_path": handle}
    return body


def _every_lora(facts: ServerFacts, handle: object | None) -> list[Json]:
    """Name every adapter of a llama.cpp server: one that is left out, even of an empty list, keeps the scale of the server's start."""
    chosen = handle if isinstance(handle, tuple) else (None, 0.0)
    return [{"id": number, "scale": chosen[1] if number == chosen[0] else 0.0} for number in sorted(set(facts.lora_numbers.values()))]


def tokenize_body(kind: ServerKind, model: str, text: str) -> Json:
    """Return the JSON that asks /tokenize for the ids of a plain text."""
    if kind is ServerKind.LLAMACPP:
        return {"content": text, "add_special": False, "parse_special": False}
    return {"model": model, "prompt": text, "add_special_tokens": False}


def error_from(status: int, retry_after: str, words: str, request: GenerationRequest) -> EngineError:
    """Turn a refusal into a typed error; `words` are the server's own, already without secrets."""
    if status == 429 or (status == 503 and retry_after):
        return EngineOverloaded(f"has too much to do ({status})", retry_seconds(retry_after))
    if status == 413 or (400 <= status < 500 and _TOO_LONG.search(words)):
        return RequestTooLong(f"{len(request.prompt)} tokens do not fit: {words}")
    if status in {400, 404} and request.adapter is not None and _ADAPTER.search(words):
        return AdapterUnknown(f"the adapter {request.adapter!a} is not loaded there: {words}")
    if status in {401, 403}:
        return EngineUnavailable(f"refuses the key ({status})")
    if 400 <= status < 500 and status not in OF_THE_SERVER:
        return EngineError(f"refuses the request ({status}): {words}")
    return EngineUnavailable(f"answered {status}: {words}")


def retry_seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header; a date or nothing stands for a few seconds."""
    return min(float(retry_after), 3600.0) if re.fullmatch(r"\d{1,9}", retry_after) else DEFAULT_RETRY_S


def words_of(data: bytes, secret: str) -> str:
    """Return a server's words as one short printable line without the key."""
    text = data[: 16 * LONGEST_WORDS].decode("utf-8", "replace")
    found = re.search(r'"(?:message|detail|error)"\s*:\s*"((?:[^"\\]|\\.)*)', text)
    text = found[1] if found else text
    if secret:
        text = text.replace(secret, "[key]")
    return "".join(character if character.isprintable() else " " for character in text)[:LONGEST_WORDS]
