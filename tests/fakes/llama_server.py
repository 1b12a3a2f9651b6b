"""A real llama.cpp server with an API key, in a process of its own, on a port that the system chooses.

`python -m tests.fakes.llama_server MODEL [LORA …]` prints its address on stdout and serves until its stdin closes.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

ROOT = Path(__file__).parents[2]
NATIVE: Any = xllamacpp  # a compiled module without types
API_KEY = "test-key-that-must-not-leak"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    url: str
    api_key: str
    process: subprocess.Popen[str]


@contextmanager
def llama_server(model: Path, loras: Sequence[Path] = (), *, slots: int = 2, context: int = 1024) -> Iterator[RunningServer]:
    """Run a server for the length of the block; `context` is in tokens per slot."""
    command = [sys.executable, "-m", "tests.fakes.llama_server", str(slots), str(context), str(model), *map(str, loras)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the llama.cpp server did not start"
        yield RunningServer(url, API_KEY, process)
    finally:
        process.kill()
        process.communicate()


def serve(slots: int, context: int, model: str, loras: Sequence[str]) -> None:
    """Serve until stdin closes."""
    params = NATIVE.CommonParams()
    params.model.path = model
    params.n_ctx = slots * context
    params.n_parallel = slots
    params.api_keys = [API_KEY]
    params.cache_ram_mib = 0
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more only wait for one another on a busy machine
    params.lora_adapters = [NATIVE.CommonAdapterLoraInfo(path, 1.0) for path in loras]
    server = NATIVE.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
