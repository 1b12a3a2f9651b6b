"""Any engine of Kefu, with everything around it: admission, circuit breaker, supervised child process."""

import time
from dataclasses import asdict
from typing import Any

from dialogue.engine.base import AdapterRef, Engine, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.bench.samples import Answer, Ask
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.factory import build_engine
from dialogue.errors import EngineUnavailable

DEADLINE_S = 3600.0  # nothing is given up: a slow arm is slow


class EngineArm:
    """Asks an engine through its protocol."""

    def __init__(self, engine: Engine, adapters: tuple[AdapterRef, ...] = (), adapter: str | None = None) -> None:
        """`adapter` answers every request; None = the one that a request names."""
        self._engine = engine
        self._adapters = adapters
        self._adapter = adapter

    async def start(self) -> dict[str, Any]:
        await self._engine.set_adapters(self._adapters)
        return asdict(await self._engine.start())

    async def answer(self, ask: Ask) -> Answer:
        arrivals: list[float] = []
        texts: list[str] = []
        finished: GenerationFinished | None = None
        async for event in self._engine.generate(self._request(ask)):
            if isinstance(event, TextDelta):
                arrivals.append(time.perf_counter())
                texts.append(event.text)
            elif isinstance(event, GenerationFinished):
                finished = event
        if finished is None:
            raise EngineUnavailable("the engine ended a generation without its last event")
        return Answer(tuple(arrivals), time.perf_counter(), finished.completion_tokens, "".join(texts), finished.cached_tokens)

    async def close(self) -> None:
        await self._engine.close()

    def _request(self, ask: Ask) -> GenerationRequest:
        return GenerationRequest(
            f"{ask.conversation}-{ask.turn}",
            ask.prompt,
            SamplingParams(max_tokens=ask.reply_tokens, temperature=0, repetition_penalty=1, ignore_eos=True),
            adapter=self._adapter or ask.adapter,
            cache_key=ask.conversation,
            fair_key=ask.conversation,
            deadline_s=DEADLINE_S,
        )


def build(settings: ArmSettings) -> EngineArm:
    """Return the arm of the engine that the settings name. Raises EngineUnavailable."""
    return EngineArm(build_engine(settings.engine, settings.files), settings.adapters, settings.options.get("adapter"))
