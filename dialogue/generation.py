"""Step 8: one generation as the dialogue wants it, around an engine's stream.

    pump ───────┐
    stop ───────┼─► queue ─► events(): ReplyWaiting, ReplyDelta, ReplyRestarted; then the outcome
    patience ───┘

One task reads the engine, so that the stream lives in one task from its first to its last event. An engine that was lost
is asked once more with the same request id: it knows that id, and refuses a request that killed it twice.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

import structlog

from dialogue.engine.base import Engine, GenerationEvent, GenerationFinished, GenerationRequest, QueuePosition, TextDelta
from dialogue.errors import DeadlineExceeded, EngineError, EngineUnavailable
from dialogue.messages import ReplyDelta, ReplyRestarted, ReplyTimings, ReplyWaiting
from dialogue.ports import Time

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 2.0  # a longer wait tells the user the place in the queue
ATTEMPTS: Final = 2
RETRY_PAUSE_S: Final = 0.2  # a supervised engine lets the request wait for its restart by itself; this is for others

PreviewEvent = ReplyWaiting | ReplyDelta | ReplyRestarted


class _Signal(Enum):
    STOP = auto()
    IMPATIENT = auto()


Items = asyncio.Queue[GenerationEvent | _Signal | BaseException]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended."""

    text: str  # without white space around it; what came before a stop or an error included
    finished: GenerationFinished | None = None  # None = stopped or failed
    error: EngineError | None = None
    stopped: bool = False
    attempts: int = 1
    timings: ReplyTimings = field(default_factory=ReplyTimings)

    @property
    def reason(self) -> str:
        """Why it ended, in one word."""
        if self.finished is not None:
            return self.finished.reason.value
        return "stopped" if self.stopped else type(self.error).__name__


class Generation:
    """One reply being made. Read `events()` to its end, then `outcome`."""

    def __init__(self, engine: Engine, request: GenerationRequest, stop: asyncio.Event, time: Time) -> None:
        self._engine = engine
        self._request = request
        self._stop = stop
        self._time = time
        self._started = time.monotonic()
        self._first_token_ms = 0.0
        self._text = ""
        self._position = 1
        self._told_position = 0
        self._impatient = False
        self._attempts = 0
        self._finished: GenerationFinished | None = None
        self._error: EngineError | None = None

    @property
    def outcome(self) -> Outcome:
        """How it ended; meaningful after the last event."""
        finished = self._finished
        return Outcome(
            text=self._text.strip(),
            finished=finished,
            error=self._error,
            stopped=finished is None and self._error is None,
            attempts=self._attempts,
            timings=ReplyTimings(
                queue_ms=finished.queue_ms if finished else 0.0,
                first_token_ms=self._first_token_ms,
                total_ms=self._elapsed_ms(),
                prompt_tokens=finished.prompt_tokens if finished else len(self._request.prompt),
                cached_tokens=finished.cached_tokens if finished else 0,
                completion_tokens=finished.completion_tokens if finished else 0,
            ),
        )

    async def events(self) -> AsyncGenerator[PreviewEvent, None]:
        """Stream previews. What an engine may raise becomes the outcome; everything else is a bug and comes through."""
        while not self._stop.is_set() and self._attempts < ATTEMPTS:
            self._attempts += 1
            try:
                async with aclosing(self._attempt()) as events:
                    async for event in events:
                        yield event
            except EngineUnavailable as error:
                log.warning("generation.lost", turn_id=self._request.request_id, attempt=self._attempts, reason=str(error))
                if self._attempts == ATTEMPTS:
                    self._error = error
                    return
                if self._text:
                    self._text = ""
                    yield ReplyRestarted()
                await self._time.sleep(RETRY_PAUSE_S)
            except EngineError as error:
                log.warning("generation.failed", turn_id=self._request.request_id, attempt=self._attempts, reason=str(error))
                self._error = error
                return
            else:
                return

    async def _attempt(self) -> AsyncGenerator[PreviewEvent, None]:
        queue: Items = asyncio.Queue()
        sources = (
            _pump(self._engine, self._remaining(), queue),
            _signal(self._stop.wait, _Signal.STOP, queue),
            _signal(lambda: self._time.sleep(PATIENCE_S), _Signal.IMPATIENT, queue),
        )
        tasks = [asyncio.create_task(source) for source in sources]
        try:
            while (item := await queue.get()) is not _Signal.STOP:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, GenerationFinished):
                    self._finished = item
                    return
                event = self._preview(item)
                if event is not None:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _remaining(self) -> GenerationRequest:
        """Return the request with the time that is left for it. Raises DeadlineExceeded."""
        remaining_s = self._request.deadline_s - self._elapsed_ms() / 1000
        if remaining_s <= 0:
            raise DeadlineExceeded("the deadline of the request passed while the engine was away")
        return replace(self._request, deadline_s=remaining_s)

    def _preview(self, item: GenerationEvent | _Signal) -> PreviewEvent | None:
        if isinstance(item, TextDelta):
            return self._grow(item.text)
        if isinstance(item, QueuePosition):
            self._position = item.position
        elif item is _Signal.IMPATIENT:
            self._impatient = True
        worth_telling = self._position > 1 or self._impatient
        if self._text or not worth_telling or self._position == self._told_position:
            return None
        self._told_position = self._position
        return ReplyWaiting(self._position)

    def _grow(self, text: str) -> ReplyDelta | None:
        if not self._text:
            text = text.lstrip()
            if text and not self._first_token_ms:
                self._first_token_ms = self._elapsed_ms()
        self._text += text
        return ReplyDelta(text) if text else None

    def _elapsed_ms(self) -> float:
        return (self._time.monotonic() - self._started) * 1000


async def _pump(engine: Engine, request: GenerationRequest, queue: Items) -> None:
    try:
        async with aclosing(engine.generate(request)) as events:
            async for event in events:
                queue.put_nowait(event)
        queue.put_nowait(EngineUnavailable("the engine ended its stream without saying so"))
    except Exception as error:  # noqa: BLE001 - the reader of the queue raises it again
        queue.put_nowait(error)


async def _signal(happens: Callable[[], Awaitable[object]], signal: _Signal, queue: Items) -> None:
    await happens()
    queue.put_nowait(signal)
