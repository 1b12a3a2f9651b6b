"""transformers' own continuous batching, at the settings that suit it: its prefix cache on, and small on a CPU.

What it defaults to is made for large GPUs. On a CPU its mask is dense, requests times cache, so that both must be kept small; pages
are small because only full ones are found again.
"""

import asyncio
import itertools
import time
from typing import Any

import transformers

from dialogue.engine.bench.samples import Answer, Ask
from dialogue.engine.bench.settings import ArmSettings, load_codec
from dialogue.engine.bench.torch_model import about, load_model
from dialogue.engine.local.passing_thread import in_passing_thread
from dialogue.errors import EngineUnavailable

PAGE_TOKENS = 32  # of the cache on a CPU
BATCH_TOKENS = 256  # of a step on a CPU


class ContinuousArm:
    """Requests join and leave a running batch in the library's own thread."""

    def __init__(self, settings: ArmSettings) -> None:
        self._settings = settings
        self._codec = load_codec(settings.files)
        self._manager: Any = None
        self._numbers = itertools.count()

    async def start(self) -> dict[str, Any]:
        model = await in_passing_thread(load_model, self._settings)
        config = self._config(on_cpu=model.device.type == "cpu")
        generation = transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        self._manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)
        if model.device.type != "cpu":
            await asyncio.to_thread(self._manager.warmup)
        self._manager.start()
        used = self._manager.continuous_batching_config
        sizes = {"page_tokens": used.page_size, "blocks": used.num_blocks, "batch_tokens": used.max_batch_tokens}
        return {**about(model), **sizes, "cuda_graphs": used.use_cuda_graph, "asynchronous": used.use_async_batching}

    async def answer(self, ask: Ask) -> Answer:
        name = f"{ask.conversation}-{ask.turn}-{next(self._numbers)}"
        arrivals: list[float] = []
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(output: Any) -> None:
            arrivals.append(time.perf_counter())
            if output.is_finished() and not ended.done():
                ended.set_result(output)

        self._manager.register_result_handler(name, take)
        self._manager.add_request(list(ask.prompt), request_id=name, max_new_tokens=ask.reply_tokens, streaming=True, eos_token_id=-1)
        output = await ended
        if output.error is not None:
            raise EngineUnavailable(f"transformers' continuous batching failed: {output.error}")
        tokens = output.generated_tokens
        return Answer(tuple(arrivals), arrivals[-1], len(tokens), self._codec.decode(tokens, skip_special=True))

    async def close(self) -> None:
        if self._manager is not None:
            await asyncio.to_thread(self._manager.stop, hard_stop=True, timeout=5)

    def _config(self, *, on_cpu: bool) -> Any:
        if not on_cpu:
            return transformers.ContinuousBatchingConfig()
        engine = self._settings.engine
        blocks = engine.slots * -(-engine.context_tokens // PAGE_TOKENS)
        return transformers.ContinuousBatchingConfig(page_size=PAGE_TOKENS, num_blocks=blocks, max_batch_tokens=BATCH_TOKENS)


def build(settings: ArmSettings) -> ContinuousArm:
    """Return the arm."""
    return ContinuousArm(settings)
