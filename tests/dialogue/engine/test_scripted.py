"""What is special about ScriptedEngine; what it shares with all engines is in the contract suite."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.scripted import Fault, FaultKind, ScriptedEngine, build
from dialogue.errors import DeadlineExceeded, EngineUnavailable


def request(text: str = "hello", request_id: str = "r", deadline_s: float = 5, max_tokens: int = 256) -> GenerationRequest:
    return GenerationRequest(request_id, tuple(text.encode()), SamplingParams(max_tokens=max_tokens), deadline_s=deadline_s)


@asynccontextmanager
async def started(engine: ScriptedEngine) -> AsyncGenerator[ScriptedEngine, None]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def text_of(engine: ScriptedEngine, wanted: GenerationRequest) -> str:
    return "".join([event.text async for event in engine.generate(wanted) if isinstance(event, TextDelta)])


async def test_echo() -> None:
    """Without a reply it says what it was told, read as UTF-8."""
    async with started(ScriptedEngine()) as engine:
        assert await text_of(engine, request("naïve 你好 🙂")) == "You said: naïve 你好 🙂"


async def test_echo_of_large_ids() -> None:
    """Ids that are no bytes are named as numbers."""
    async with started(ScriptedEngine()) as engine:
        assert await text_of(engine, GenerationRequest("r", (1, 49152), SamplingParams())) == "You said: 1 49152"


async def test_reply_by_rule() -> None:
    """A function of the prompt ids decides the answer."""
    async with started(ScriptedEngine(lambda ids: f"{len(ids)} ids")) as engine:
        assert await text_of(engine, request("four")) == "4 ids"


async def test_delay_is_injected() -> None:
    """Time passes only through the injected sleep: once for the prompt, once for each token."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with started(ScriptedEngine("12345678", prompt_delay_s=3, token_delay_s=7, sleep=sleep)) as engine:
        await text_of(engine, request())
    assert slept == [3, 7, 7]


async def test_raises_when_told() -> None:
    """A fault fails the named request after its tokens, and no other."""
    async with started(ScriptedEngine("12345678", faults=[Fault(FaultKind.RAISE, request_ids=("bad",))])) as engine:
        events = engine.generate(request(request_id="bad"))
        assert await anext(events) == TextDelta("1234")
        with pytest.raises(EngineUnavailable, match="scripted failure"):
            await anext(events)
        assert await text_of(engine, request(request_id="good")) == "12345678"


async def test_every_nth_fails() -> None:
    """`every=3` fails requests 3 and 6."""
    async with started(ScriptedEngine("ok", faults=[Fault(FaultKind.RAISE, every=3, after_tokens=0)])) as engine:
        failed = []
        for number in range(1, 8):
            try:
                await text_of(engine, request())
            except EngineUnavailable:
                failed.append(number)
    assert failed == [3, 6]


async def test_stall_ends_at_the_deadline() -> None:
    """A stalled request holds its slot until its deadline; the others go on."""
    async with started(ScriptedEngine("ok", slots=2, faults=[Fault(FaultKind.STALL, request_ids=("bad",))])) as engine:
        stalled = asyncio.ensure_future(text_of(engine, request(request_id="bad", deadline_s=0.2)))
        assert await text_of(engine, request()) == "ok"
        with pytest.raises(DeadlineExceeded):
            await stalled
        assert engine.health().running == 0


async def test_close_ends_what_runs() -> None:
    """close() makes a running request raise EngineUnavailable."""
    async with started(ScriptedEngine("12345678")) as engine:
        events = engine.generate(request())
        await anext(events)
        await engine.close()
        with pytest.raises(EngineUnavailable):
            await anext(events)


async def test_build_from_plain_values() -> None:
    """JSON values make the same engine, faults included."""
    engine = build({"reply": "ok", "slots": 3, "faults": [{"kind": "raise", "every": 1, "after_tokens": 0}]})
    async with started(engine):
        assert (await engine.start()).slots == 3
        with pytest.raises(EngineUnavailable):
            await text_of(engine, request())


async def test_start_fails_when_told() -> None:
    """`start_error` keeps the engine from starting."""
    with pytest.raises(EngineUnavailable, match="no such model"):
        await ScriptedEngine(start_error="no such model").start()


async def test_ignore_eos_goes_on() -> None:
    """`ignore_eos` always makes max_tokens tokens."""
    async with started(ScriptedEngine("ok")) as engine:
        sampling = SamplingParams(max_tokens=50, ignore_eos=True)
        events = [event async for event in engine.generate(GenerationRequest("r", (1,), sampling))]
    assert isinstance(events[-1], GenerationFinished)
    assert events[-1].completion_tokens == 50
