"""`transformers.generate`, the two ways in which people use it in a server: one request after the other, or in padded batches.

Neither keeps anything: each turn computes the whole history again. A padded batch takes what waits when the last one is done; who
comes later waits for its end.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from dialogue.engine.bench.samples import Answer, Ask
from dialogue.engine.bench.settings import ArmSettings, load_codec
from dialogue.engine.bench.torch_model import about, load_model

GATHER_S = 0.005  # a batch waits so long for requests that come at the same moment

Waiting = tuple[Ask, "asyncio.Future[Answer]"]


class Stamps:
    """A streamer of transformers that takes the time of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        """The prompt comes first, then the tokens of each step."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to be told."""


class GenerateArm:
    """One thread that generates; requests wait for it."""

    def __init__(self, settings: ArmSettings, width: int) -> None:
        """`width` is the most requests of one batch; 1 = one by one."""
        self._settings = settings
        self._width = width
        self._codec = load_codec(settings.files)
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None
        self._model: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generate")  # one for all: each that computes keeps threads of OpenMP

    async def start(self) -> dict[str, Any]:
        self._model = await asyncio.get_running_loop().run_in_executor(self._thread, load_model, self._settings)
        self._work = asyncio.create_task(self._run())
        return {**about(self._model), "width": self._width}

    async def answer(self, ask: Ask) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((ask, answered))
        return await answered

    async def close(self) -> None:
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            batch = await self._gather()
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._generate, [ask for ask, _ in batch])
            except Exception as error:  # noqa: BLE001 - those who wait are told
                for _, answered in batch:
                    if not answered.done():
                        answered.set_exception(error)
            else:
                for (_, answered), answer in zip(batch, answers, strict=True):
                    if not answered.done():
                        answered.set_result(answer)

    async def _gather(self) -> list[Waiting]:
        batch = [await self._queue.get()]
        if self._width > 1:
            await asyncio.sleep(GATHER_S)
        while len(batch) < self._width and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def _generate(self, asks: Sequence[Ask]) -> list[Answer]:
        stamps = Stamps()
        ids, mask = padded([ask.prompt for ask in asks], self._model.device)
        adapters = [ask.adapter or "__base__" for ask in asks]
        with torch.inference_mode():
            rows = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(ask.reply_tokens for ask in asks),
                do_sample=False,
                streamer=stamps,
                **({"adapter_names": adapters} if self._settings.adapters else {}),
            )
        return [self._answer(ask, row, stamps.times[1:]) for ask, row in zip(asks, rows[:, ids.shape[1] :].tolist(), strict=True)]

    def _answer(self, ask: Ask, row: list[int], times: Sequence[float]) -> Answer:
        tokens = row[: ask.reply_tokens]
        mine = tuple(times[: len(tokens)])
        return Answer(mine, mine[-1], len(tokens), self._codec.decode(tokens, skip_special=True), cached_tokens=0)


def padded(prompts: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any]:
    """Return ids and mask of a batch, padded on the left to the longest prompt."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def build(settings: ArmSettings) -> GenerateArm:
    """Return the arm of the width in the options."""
    return GenerateArm(settings, settings.options.get("width", 1))
