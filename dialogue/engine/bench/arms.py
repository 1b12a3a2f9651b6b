"""The arms of the bench: our whole stack, and the raw library. Both are asked the same way and never at the same time."""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dialogue.engine.base import Engine, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.bench.workload import Ids, Sample
from dialogue.engine.llamacpp import SPIN_COUNT
from dialogue.errors import EngineUnavailable

MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class RawSettings:
    """What the raw library is started with; the same as the engine's own."""

    model: str  # path of the GGUF file
    context_tokens: int  # per slot
    slots: int
    threads: int
    cache_ram_mib: int
    spin_count: str = SPIN_COUNT  # of OpenMP; its default loses by far on a busy machine, and the bench is about what Kefu adds


class EngineArm:
    """Any engine, through its protocol."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answer(self, conversations: Sequence[str], prompts: Sequence[Ids], reply_tokens: int) -> list[Sample]:
        """Generate for all prompts at the same time."""
        sampling = SamplingParams(max_tokens=reply_tokens, temperature=0, repetition_penalty=1, ignore_eos=True)
        requests = [
            GenerationRequest(f"{name}-{len(prompt)}", prompt, sampling, cache_key=name, fair_key=name)
            for name, prompt in zip(conversations, prompts, strict=True)
        ]
        return await asyncio.gather(*(self._one(request) for request in requests))

    async def _one(self, request: GenerationRequest) -> Sample:
        started, first = time.perf_counter(), 0.0
        texts: list[str] = []
        finished: GenerationFinished | None = None
        async for event in self._engine.generate(request):
            if isinstance(event, TextDelta):
                first = first or time.perf_counter()
                texts.append(event.text)
            elif isinstance(event, GenerationFinished):
                finished = event
        ended = time.perf_counter()
        if finished is None:
            raise EngineUnavailable("the engine ended a generation without its last event")
        return Sample(
            ttft_ms=((first or ended) - started) * 1000,
            total_ms=(ended - started) * 1000,
            tokens=finished.completion_tokens,
            text="".join(texts),
            prompt_tokens=finished.prompt_tokens,
            cached_tokens=finished.cached_tokens,
        )


class RawArm:
    """xllamacpp in a child process, driven over its stdin."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def answer(self, conversations: Sequence[str], prompts: Sequence[Ids], reply_tokens: int) -> list[Sample]:
        """Generate for all prompts at the same time; the library finds a conversation's slot by the prompt's beginning."""
        assert len(conversations) == len(prompts)  # noqa: S101 - a mistake of the bench itself
        common = {"max_tokens": reply_tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": True, "stream": True}
        samples = await self.ask([{"prompt": prompt, **common} for prompt in prompts])
        return [Sample(**sample) for sample in samples]

    async def ask(self, line: object) -> Any:
        """Send one line and return the answer."""
        assert self._child.stdin is not None  # noqa: S101 - opened with pipes
        assert self._child.stdout is not None  # noqa: S101
        self._child.stdin.write(json.dumps(line).encode() + b"\n")
        await self._child.stdin.drain()
        answer = await self._child.stdout.readline()
        if not answer:
            raise EngineUnavailable("the raw library's process has ended")
        return json.loads(answer)


@asynccontextmanager
async def raw_arm(settings: RawSettings) -> AsyncIterator[RawArm]:
    """Run the raw library for the length of the block."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dialogue.engine.bench.raw_child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=MAX_LINE_BYTES,
        cwd=Path(__file__).parents[3],
        start_new_session=True,  # as our child: Linux shares a busy machine out by session
    )
    try:
        arm = RawArm(child)
        await arm.ask(asdict(settings) | {"key": secrets.token_hex(16)})
        yield arm
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            child.kill()
        await child.wait()
