"""One generation: what is heard of it, and that nothing of it stays behind."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from dialogue.engine.base import GenerationEvent, GenerationRequest, QueuePosition, SamplingParams, TextDelta
from dialogue.errors import DeadlineExceeded, EngineUnavailable
from dialogue.generation import Generation
from dialogue.messages import ReplyDelta, ReplyWaiting
from tests.dialogue.harness import FrozenTime, PuppetEngine, Script

REQUEST = GenerationRequest("r", (1, 2, 3), SamplingParams(), deadline_s=10)


def generation(*scripts: Script, stop: asyncio.Event | None = None, time: FrozenTime | None = None) -> tuple[Generation, PuppetEngine]:
    engine = PuppetEngine(scripts=list(scripts))
    return Generation(engine, REQUEST, stop or asyncio.Event(), (time or FrozenTime()).ports()), engine


async def hear(made: Generation) -> list[object]:
    return [event async for event in made.events()]


async def test_white_space_around_a_reply_is_no_part_of_it() -> None:
    """A reply begins with its first visible character, in the previews too, and ends with its last."""
    made, _ = generation(["\n", "  Hel", "lo \n", "there", " \n"])
    events = await hear(made)
    assert events == [ReplyDelta("Hel"), ReplyDelta("lo \n"), ReplyDelta("there"), ReplyDelta(" \n")]
    assert made.outcome.text == "Hello \nthere"
    assert (made.outcome.reason, made.outcome.attempts) == ("stop", 1)


async def test_an_engine_that_just_ends_was_lost() -> None:
    """A stream without its last event is a lost engine: it is asked once more."""

    class Forgetful(PuppetEngine):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
            self.requests.append(request)
            yield TextDelta("Hel")

    engine = Forgetful()
    made = Generation(engine, REQUEST, asyncio.Event(), FrozenTime().ports())
    await hear(made)
    assert isinstance(made.outcome.error, EngineUnavailable)
    assert len(engine.requests) == 2


async def test_a_second_try_has_only_the_time_that_is_left() -> None:
    """The deadline of a request does not begin anew with a retry, and without any time left there is none."""
    time = FrozenTime()

    class Slow(PuppetEngine):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
            time.now += 6
            async for event in super().generate(request):
                yield event

    engine = Slow(scripts=[[EngineUnavailable("gone")], ["Hello"]])
    await hear(Generation(engine, REQUEST, asyncio.Event(), time.ports()))
    assert [request.deadline_s for request in engine.requests] == [10, 4]

    engine = Slow(scripts=[[EngineUnavailable("gone")], ["Hello"]])
    made = Generation(engine, GenerationRequest("r", (1,), SamplingParams(), deadline_s=5), asyncio.Event(), time.ports())
    await hear(made)
    assert isinstance(made.outcome.error, DeadlineExceeded)
    assert len(engine.requests) == 1


async def test_a_stop_between_two_tries_is_heard() -> None:
    """A user who stops while the engine is away gets no second try."""
    stop = asyncio.Event()

    class Stopped(PuppetEngine):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
            self.requests.append(request)
            stop.set()
            raise EngineUnavailable("gone")
            yield TextDelta("never")

    engine = Stopped()
    made = Generation(engine, REQUEST, stop, FrozenTime().ports())
    await hear(made)
    assert made.outcome.stopped
    assert len(engine.requests) == 1


async def test_the_wait_is_told_only_before_the_first_word() -> None:
    """Once the reply is under way, the place in the queue is of no interest."""
    made, _ = generation([QueuePosition(2), "Hello", QueuePosition(3)])
    assert await hear(made) == [ReplyWaiting(2), ReplyDelta("Hello")]


@pytest.mark.parametrize("how", ["stop", "close", "cancel"])
async def test_no_task_stays_behind(how: str) -> None:
    """Whichever way a generation ends early, the engine's generator is closed and no task is left."""
    stop = asyncio.Event()
    made, engine = generation(["Hello", asyncio.Event()], stop=stop)
    before = asyncio.all_tasks()
    heard = asyncio.Event()

    async def listen() -> None:
        async with aclosing(made.events()) as events:
            async for _ in events:
                heard.set()
                if how == "stop":
                    stop.set()
                elif how == "close":
                    return

    listener = asyncio.create_task(listen())
    await heard.wait()
    if how == "cancel":
        listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    assert engine.running == 0
    assert asyncio.all_tasks() == before


async def test_times_are_measured() -> None:
    """First word and end are counted from the submission, in milliseconds."""
    time = FrozenTime()

    class Measured(PuppetEngine):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
            time.now += 0.5
            async for event in super().generate(request):
                yield event
                await asyncio.sleep(0)
                time.now += 0.25

    made = Generation(Measured(default=["a", "b"]), REQUEST, asyncio.Event(), time.ports())
    await hear(made)
    timings = made.outcome.timings
    assert (timings.first_token_ms, timings.total_ms) == (500, 1000)
    assert (timings.prompt_tokens, timings.completion_tokens, timings.queue_ms) == (3, 2, 1.0)
