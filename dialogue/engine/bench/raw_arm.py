"""The raw library: xllamacpp without anything of Kefu around it. Every request is timed where its chunks arrive, in its own thread."""

import asyncio
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialogue.engine.bench.samples import UNKNOWN, Answer, Ask
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.cpu_cores import usable_cores
from dialogue.engine.llama_server import SPIN_COUNT
from dialogue.engine.lora_gguf import ServedFiles, prepare_adapter
from dialogue.errors import EngineUnavailable

MOST_THREADS = 256  # requests beyond the slots wait inside the library


@dataclass(frozen=True, slots=True)
class RawSettings:
    """What the library is started with: the same as the engine's own, and its defaults everywhere else."""

    model: Path  # GGUF
    context_tokens: int  # per slot
    slots: int
    threads: int
    cache_ram_mib: int
    loras: tuple[tuple[str, Path], ...] = ()  # name and GGUF file


class RawArm:
    """Calls the library's server object in threads."""

    def __init__(self, settings: RawSettings) -> None:
        self._settings = settings
        self._server: Any = None
        self._threads = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="raw")

    async def start(self) -> dict[str, Any]:
        try:
            self._server = await asyncio.to_thread(load, self._settings)
        except RuntimeError as error:
            raise EngineUnavailable(f"llama.cpp cannot load {self._settings.model}: {error}") from error
        return {"engine": "xllamacpp", "slots": self._settings.slots, "context_tokens": self._settings.context_tokens}

    async def answer(self, ask: Ask) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, generate, self._server, self._request(ask))

    async def close(self) -> None:
        self._server = None
        self._threads.shutdown(wait=False)

    def _request(self, ask: Ask) -> dict[str, Any]:
        return {
            "prompt": list(ask.prompt),
            "max_tokens": ask.reply_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": True,
            "stream": True,
            "lora": [{"id": number, "scale": float(name == ask.adapter)} for number, (name, _) in enumerate(self._settings.loras)],
        }


def load(settings: RawSettings) -> Any:
    """Return a running server."""
    os.putenv("GOMP_SPINCOUNT", SPIN_COUNT)  # OpenMP's default loses by far on a busy machine, and the bench is about what Kefu adds
    import xllamacpp  # noqa: PLC0415 - OpenMP reads its setting when the library is loaded

    native: Any = xllamacpp  # a compiled module without types
    params = native.CommonParams()
    params.model.path = str(settings.model)
    params.n_ctx = settings.context_tokens * settings.slots
    params.n_parallel = settings.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.cache_ram_mib = settings.cache_ram_mib
    params.lora_adapters = [native.CommonAdapterLoraInfo(str(path), 1.0) for _, path in settings.loras]
    params.lora_init_without_apply = True
    params.api_keys = [secrets.token_hex(16)]
    params.endpoint_slots = False
    params.verbosity = -1
    return native.Server(params)


def generate(server: Any, request: dict[str, Any]) -> Answer:
    """Run one request to its end. Blocks."""
    arrivals: list[float] = []
    texts: list[str] = []
    timings: dict[str, Any] = {}
    errors: list[str] = []

    def take(chunk: dict[str, Any]) -> bool:
        text = chunk["choices"][0]["text"] if chunk.get("choices") else ""
        if text:
            arrivals.append(time.perf_counter())
            texts.append(text)
        if "message" in chunk:
            errors.append(str(chunk["message"]))
        timings.update(chunk.get("timings", {}))
        return False

    server.handle_completions(request, take)
    ended = time.perf_counter()
    if errors or not timings:
        raise EngineUnavailable(f"llama.cpp refuses a request: {errors[0] if errors else 'it gave no reason'}")
    return Answer(tuple(arrivals), ended, timings.get("predicted_n", len(texts)), "".join(texts), timings.get("cache_n", UNKNOWN))


def build(settings: ArmSettings) -> RawArm:
    """Return the arm. Raises AdapterRejected."""
    engine, files = settings.engine, settings.files
    if files is None:
        raise EngineUnavailable("The raw library needs a GGUF file.")
    served = ServedFiles(files.path, files.sha256, files.tokenizer_sha256, files.template_sha256)
    loras = tuple((each.name, prepare_adapter(Path(each.path), served, engine.cache_dir)) for each in settings.adapters)
    context = min(engine.context_tokens, files.context_tokens)
    return RawArm(RawSettings(files.path, context, engine.slots, engine.threads or usable_cores(), engine.cache_ram_mib, loras))
