"""llama.cpp's server as xllamacpp brings it: how it is started, asked and ended.

It always opens an HTTP port on the loopback as well. Nobody is meant to use it: it has a random key and no pages, and Kefu itself
speaks HTTP with it for one thing only (`erase`).
"""

import http.client
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dialogue.engine.llama_request import OnChunk
from dialogue.engine.llama_slots import PROMPT_SIMILARITY
from dialogue.errors import EngineUnavailable

# A cancelled request is noticed between two batches, and what other slots generate waits for a batch: 256 tokens are at most
# a second with the default model on two cores. With eight users smaller ones carry less (0.91 of the library's own 512 with 64,
# 0.95 with 128, 0.99 with 256: `kefu bench engine --users 8`), and make the last of them wait longer for a first token.
BATCH_TOKENS = 256
# How long OpenMP's threads spin at a barrier before they sleep. Its default is milliseconds: on cores that others
# use as well, that is the difference between 30 tokens/s and none. Alone on the machine it costs nothing (measured).
SPIN_COUNT = "1000"
# A reply that repeats so many tokens of its conversation may go on as that did: so many more are computed at once and kept as far as
# the model says the same. Where nothing repeats, nothing is guessed (`kefu bench engine --arms llamacpp,llamacpp-no-speculation`).
REPEATED_TOKENS, GUESSED_TOKENS = 6, 8
LOG_ERRORS = 1  # llama.cpp's verbosity
ERASE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with."""

    model: Path  # GGUF
    context_tokens: int  # of each slot
    slots: int
    threads: int
    cache_ram_mib: int  # for the KV of conversations that lost their slot; 0 = none
    speculation: bool  # compute what may follow by the conversation's own words together with the next token


class LlamaServer:
    """A loaded model. Every method blocks; `complete` may run in as many threads as there are slots."""

    def __init__(self, settings: ServerSettings, loras: Sequence[Path] = ()) -> None:
        """Load the model. Holds the interpreter's lock while it does. Raises EngineUnavailable."""
        self.api_key = secrets.token_urlsafe(32)
        library = _library()
        try:
            self._server: Any = library.Server(_parameters(library, settings, loras, self.api_key))
        except RuntimeError as error:
            raise EngineUnavailable(f"llama.cpp cannot load {settings.model}: {error}") from error
        self.address: str = self._server.listening_address
        self._await_loop(len(loras))

    def complete(self, request: str, on_chunk: OnChunk) -> None:
        """Run one completion to its end, or until `on_chunk` returns True."""
        self._server.handle_completions(request, on_chunk)

    def erase(self, slot: int) -> None:
        """Forget what an idle slot holds. Raises EngineUnavailable."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=ERASE_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
            connection.request("POST", f"/slots/{slot}?action=erase", "{}", headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnavailable(f"llama.cpp does not erase a slot: {error}") from error
        finally:
            connection.close()
        if status != http.client.OK:
            raise EngineUnavailable(f"llama.cpp does not erase a slot: it answers {status}")

    def _await_loop(self, adapters: int) -> None:
        """Generate a token: a server that is freed before its loop has begun would wait for itself for ever."""
        lora = [{"id": number, "scale": 1.0 if number == 0 else 0.0} for number in range(adapters)]
        self.complete(json.dumps({"prompt": [0], "n_predict": 1, "stream": True, "lora": lora, "id_slot": 0}), lambda _: False)

    def close(self) -> None:
        """Free the model. Nothing may run any more."""
        self._server = None


def _library() -> Any:
    """Import xllamacpp: here, because OpenMP reads its setting once, when the library that brings it is loaded."""
    os.putenv("GOMP_SPINCOUNT", SPIN_COUNT)
    import xllamacpp  # noqa: PLC0415

    return xllamacpp


def _parameters(library: Any, settings: ServerSettings, loras: Sequence[Path], api_key: str) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = str(settings.model)
    parameters.n_ctx = settings.context_tokens * settings.slots  # not unified: each slot has its share for itself
    parameters.n_parallel = settings.slots
    parameters.kv_unified = False
    parameters.n_batch = parameters.n_ubatch = max(BATCH_TOKENS, settings.slots)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
    parameters.fit_params = False  # would shrink the context without a word
    parameters.warmup = True
    parameters.cont_batching = parameters.cache_prompt = True
    parameters.cache_ram_mib = settings.cache_ram_mib
    parameters.cache_idle_slots = False  # a slot is saved when another conversation needs it, not at every request
    parameters.slot_prompt_similarity = PROMPT_SIMILARITY
    parameters.lora_adapters = [library.CommonAdapterLoraInfo(str(path), 1.0) for path in loras]
    parameters.lora_init_without_apply = True  # each request says which it wants
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_threads_http = 2
    parameters.endpoint_slots = parameters.endpoint_props = parameters.endpoint_metrics = parameters.ui = False
    parameters.slot_save_path = os.devnull + os.sep  # allows `erase`; nothing can be saved there
    parameters.use_jinja, parameters.chat_template = (
        False,
        "chatml",
    )  # prompts come as ids; a template that it cannot read would keep it from starting
    parameters.verbosity = LOG_ERRORS
    if settings.speculation:
        # This kind looks up the tokens of its own slot alone, and keeps nothing of them.
        parameters.speculative.types = [library.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        parameters.speculative.ngram_simple.size_n, parameters.speculative.ngram_simple.size_m = REPEATED_TOKENS, GUESSED_TOKENS
    return parameters
