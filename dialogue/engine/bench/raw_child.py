"""The raw library in a process of its own: xllamacpp without anything of Kefu.

One JSON object with the settings on stdin, then one list of requests per line; one JSON line of samples for each on stdout.
Every request is timed from the call into the library to its callback.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any


def main() -> None:
    """Load the model, then answer line by line until stdin closes."""
    settings = json.loads(sys.stdin.readline())
    server = load(settings)
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - stdout is the way back
    with ThreadPoolExecutor(settings["slots"]) as threads:
        for line in sys.stdin:
            samples = list(threads.map(partial(generate, server), json.loads(line)))
            print(json.dumps(samples), flush=True)  # noqa: T201


def load(settings: dict[str, Any]) -> Any:
    """Return a running server with the same settings as the engine's."""
    os.putenv("GOMP_SPINCOUNT", settings["spin_count"])
    import xllamacpp  # noqa: PLC0415 - OpenMP reads its setting when the library is loaded

    native: Any = xllamacpp  # a compiled module without types
    params = native.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context_tokens"] * settings["slots"]
    params.n_parallel = settings["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = settings["cache_ram_mib"]
    params.api_keys = [settings["key"]]
    params.endpoint_slots = False
    params.verbosity = -1
    return native.Server(params)


def generate(server: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run one request to its end and return its sample."""
    started = time.perf_counter()
    first = 0.0
    texts: list[str] = []
    last: dict[str, Any] = {}

    def take(chunk: dict[str, Any]) -> bool:
        nonlocal first, last
        text = chunk["choices"][0]["text"] if chunk.get("choices") else ""
        if text and not first:
            first = time.perf_counter()
        texts.append(text)
        last = chunk if "timings" in chunk else last
        return False

    server.handle_completions(request, take)
    ended = time.perf_counter()
    timings = last.get("timings", {})
    return {
        "ttft_ms": ((first or ended) - started) * 1000,
        "total_ms": (ended - started) * 1000,
        "tokens": timings.get("predicted_n", len(texts)),
        "text": "".join(texts),
        "prompt_tokens": len(request["prompt"]),
        "cached_tokens": timings.get("cache_n", -1),
    }


if __name__ == "__main__":
    main()
