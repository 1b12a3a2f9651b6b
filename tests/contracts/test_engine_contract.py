"""What every engine promises. The engines stand in `tests/contracts/engines.py`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.engine.base import (
    AdapterRef,
    Engine,
    FinishReason,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    QueuePosition,
    SamplingParams,
    TextDelta,
)
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineUnavailable, RequestTooLong
from tests.contracts.engines import ENGINES, Arm, Subject
from tests.waiting import until

GREEDY = SamplingParams(max_tokens=24, temperature=0, repetition_penalty=1)
LONG = SamplingParams(max_tokens=1500, temperature=0, repetition_penalty=1, ignore_eos=True)
QUESTION = "Please tell me a little about the ocean."


@pytest.fixture(params=ENGINES, ids=lambda arm: arm.name)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Subject, None]:
    arm: Arm = request.param
    async with arm.open(tmp_path) as opened:
        yield opened


def ask(subject: Subject, sampling: SamplingParams = GREEDY, text: str = QUESTION, request_id: str = "r") -> GenerationRequest:
    return GenerationRequest(request_id, subject.encode(text), sampling, deadline_s=60)


async def collect(engine: Engine, request: GenerationRequest) -> tuple[str, GenerationFinished]:
    """Run a generation to its end and check the order of its events."""
    events = [event async for event in engine.generate(request)]
    kinds = [type(event) for event in events]
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert all(kind in {QueuePosition, TextDelta} for kind in kinds[:-1])
    assert sorted(kinds[:-1], key=lambda kind: kind is TextDelta) == kinds[:-1], "a queue position after the first text"
    assert all(texts), "an empty delta"
    assert isinstance(events[-1], GenerationFinished)
    return "".join(texts), events[-1]


async def first_text(events: AsyncGenerator[GenerationEvent, None]) -> TextDelta:
    async for event in events:
        if isinstance(event, TextDelta):
            return event
    raise AssertionError("no text")


async def test_info(subject: Subject) -> None:
    """start() describes the engine, again when asked again, and health() is ready."""
    info = await subject.engine.start()
    assert info.engine
    assert len(info.model_sha256) == 64
    assert info.context_tokens > 0
    assert info.slots > 0
    assert subject.engine.health().ready


async def test_stream(subject: Subject) -> None:
    """Text deltas, then exactly one last event with counts that fit."""
    text, finished = await collect(subject.engine, ask(subject))
    assert text
    assert finished.prompt_tokens == len(subject.encode(QUESTION))
    assert 0 < finished.completion_tokens <= GREEDY.max_tokens
    assert finished.cached_tokens <= finished.prompt_tokens
    assert min(finished.queue_ms, finished.prompt_ms, finished.generation_ms) >= 0


async def test_greedy_is_deterministic(subject: Subject) -> None:
    """Temperature 0 gives the same text each time."""
    assert (await collect(subject.engine, ask(subject)))[0] == (await collect(subject.engine, ask(subject)))[0]


async def test_seed_is_deterministic(subject: Subject) -> None:
    """The same seed gives the same text, which `replay` relies on."""
    request = ask(subject, replace(GREEDY, temperature=0.9, seed=7))
    assert (await collect(subject.engine, request))[0] == (await collect(subject.engine, request))[0]


async def test_max_tokens(subject: Subject) -> None:
    """Generation ends at max_tokens and says so."""
    _text, finished = await collect(subject.engine, ask(subject, replace(LONG, max_tokens=5)))
    assert (finished.completion_tokens, finished.reason) == (5, FinishReason.LENGTH)


async def test_context_ends_a_generation(subject: Subject) -> None:
    """A full context ends a generation with LENGTH."""
    info = await subject.engine.start()
    unit = subject.encode(QUESTION)
    prompt = (unit * (info.context_tokens // len(unit) + 1))[: info.context_tokens - 8]
    _text, finished = await collect(subject.engine, GenerationRequest("r", prompt, LONG, deadline_s=120))
    assert finished.reason == FinishReason.LENGTH
    assert finished.completion_tokens <= 9


async def test_stop_strings_are_never_shown(subject: Subject) -> None:
    """Text ends before the stop string, wherever that lies between the deltas."""
    whole, _ = await collect(subject.engine, ask(subject))
    for start in range(2, min(len(whole) - 6, 20), 3):
        stop = whole[start : start + 6]
        text, finished = await collect(subject.engine, ask(subject, replace(GREEDY, stop=("never to be seen", stop))))
        assert text == whole[: whole.index(stop)]
        assert finished.reason == FinishReason.STOP


async def test_a_stop_string_that_is_not_completed_is_shown(subject: Subject) -> None:
    """The beginning of a stop string at the end of the text is not swallowed."""
    whole, _ = await collect(subject.engine, ask(subject))
    text, _ = await collect(subject.engine, ask(subject, replace(GREEDY, stop=(whole[-3:] + "\0",))))
    assert text == whole


async def test_no_character_is_split(subject: Subject) -> None:
    """Characters of several bytes arrive whole."""
    request = GenerationRequest("r", subject.multibyte_prompt, replace(GREEDY, max_tokens=40), deadline_s=60)
    events = [event async for event in subject.engine.generate(request)]
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert any(ord(character) > 0x7FF for text in texts for character in text), "the prompt of this arm shows nothing"
    for text in texts:
        assert "\ufffd" not in text
        text.encode("utf-8")


async def test_cut_in_a_character(subject: Subject) -> None:
    """A limit in the middle of a character leaves no broken one behind."""
    for limit in range(1, 12):
        request = GenerationRequest("r", subject.multibyte_prompt, replace(GREEDY, max_tokens=limit), deadline_s=60)
        assert "\ufffd" not in (await collect(subject.engine, request))[0]


async def test_closing_the_generator_frees_the_slot(subject: Subject) -> None:
    """A cancelled request runs no more after one second."""
    async with aclosing(subject.engine.generate(ask(subject, LONG))) as events:
        await first_text(events)
        assert subject.engine.health().running == 1
    await until(lambda: subject.engine.health().running == 0)


async def test_cancelling_the_task_frees_the_slot(subject: Subject) -> None:
    """The same by cancelling the task that reads, before the first text and after."""
    for texts_wanted in (0, 1):
        seen = asyncio.Event()

        async def read(wanted: int = texts_wanted, seen: asyncio.Event = seen) -> None:
            async with aclosing(subject.engine.generate(ask(subject, LONG))) as events:
                if not wanted:
                    asyncio.get_running_loop().call_soon(seen.set)
                async for _ in events:
                    seen.set()

        reading = asyncio.create_task(read())
        await seen.wait()
        reading.cancel()
        await asyncio.wait({reading})
        await until(lambda: subject.engine.health().running == 0)
    assert (await collect(subject.engine, ask(subject)))[0]


async def test_deadline(subject: Subject) -> None:
    """A generation that is not done at its deadline raises DeadlineExceeded and frees its slot."""
    request = replace(ask(subject, LONG), deadline_s=0.15)
    with pytest.raises(DeadlineExceeded):
        async for _ in subject.engine.generate(request):
            pass
    await until(lambda: subject.engine.health().running == 0)


async def test_as_many_at_once_as_slots(subject: Subject) -> None:
    """All slots generate at the same time; one more waits and then gets its turn."""
    slots = (await subject.engine.start()).slots
    streams = [subject.engine.generate(ask(subject, LONG, request_id=f"r{n}")) for n in range(slots)]
    try:
        for stream in streams:
            await first_text(stream)
        assert subject.engine.health().running == slots
        late = asyncio.create_task(collect(subject.engine, ask(subject, request_id="late")))
    finally:
        for stream in streams:
            await stream.aclose()
    assert (await late)[0]


async def test_parallel_requests_do_not_mix(subject: Subject) -> None:
    """Each of several requests at once gets the text that it gets alone."""
    texts = [f"Count from {n} to {n + 5}." for n in range(5)]
    alone = [(await collect(subject.engine, ask(subject, text=text)))[0] for text in texts]
    together = await asyncio.gather(*(collect(subject.engine, ask(subject, text=text, request_id=text)) for text in texts))
    assert [text for text, _ in together] == alone


async def test_unknown_adapter(subject: Subject) -> None:
    """A request for an adapter that is not loaded raises AdapterUnknown."""
    with pytest.raises(AdapterUnknown):
        await collect(subject.engine, replace(ask(subject), adapter="nobody"))
    await until(lambda: subject.engine.health().running == 0)


async def test_rejected_adapter_changes_nothing(subject: Subject, tmp_path: Path) -> None:
    """A folder that is no adapter is rejected; the engine goes on with what it had."""
    with pytest.raises(AdapterRejected):
        await subject.engine.set_adapters([AdapterRef("bad", str(tmp_path / "nothing"))])
    assert (await collect(subject.engine, ask(subject)))[0]
    with pytest.raises(AdapterUnknown):
        await collect(subject.engine, replace(ask(subject), adapter="bad"))


async def test_adapters_come_and_go(subject: Subject) -> None:
    """An adapter answers while it is set, and a request that runs when adapters change comes to its end."""
    if subject.adapter is None:
        pytest.skip("no adapter for this engine here")
    plain, _ = await collect(subject.engine, ask(subject))
    running = subject.engine.generate(ask(subject, replace(LONG, max_tokens=60)))
    await first_text(running)
    await subject.engine.set_adapters([subject.adapter])
    events = [event async for event in running]
    assert isinstance(events[-1], GenerationFinished)
    adapted, _ = await collect(subject.engine, replace(ask(subject), adapter=subject.adapter.name))
    assert adapted != plain
    assert (await collect(subject.engine, ask(subject)))[0] == plain
    await subject.engine.set_adapters([])
    with pytest.raises(AdapterUnknown):
        await collect(subject.engine, replace(ask(subject), adapter=subject.adapter.name))


async def test_too_long(subject: Subject) -> None:
    """A prompt that fills the context raises RequestTooLong."""
    info = await subject.engine.start()
    unit = subject.encode(QUESTION)
    prompt = (unit * (info.context_tokens // len(unit) + 1))[: info.context_tokens + 1]
    with pytest.raises(RequestTooLong):
        await collect(subject.engine, GenerationRequest("r", prompt, GREEDY))
    await until(lambda: subject.engine.health().running == 0)


async def test_continued_prompt_is_cached(subject: Subject) -> None:
    """A prompt that continues one of the same cache key is not computed again from the start."""
    if not subject.continues:
        pytest.skip("an encoder reads its whole text anew")
    first = replace(ask(subject), cache_key="conversation")
    await collect(subject.engine, first)
    second = replace(first, prompt=first.prompt + subject.encode(" And what about the rivers?"))
    _text, finished = await collect(subject.engine, second)
    assert finished.cached_tokens > len(first.prompt) // 2


async def test_close(subject: Subject) -> None:
    """close() ends what runs, may be called twice, and nothing generates after it."""
    events = subject.engine.generate(ask(subject, LONG))
    await first_text(events)
    await subject.engine.close()
    with pytest.raises(EngineUnavailable):
        async for _ in events:
            pass
    await subject.engine.close()
    assert not subject.engine.health().ready
    with pytest.raises(EngineUnavailable):
        await collect(subject.engine, ask(subject))
    with pytest.raises(EngineUnavailable):
        await subject.engine.start()
