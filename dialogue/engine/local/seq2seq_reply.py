"""One reply of an encoder–decoder: its tokens come in the worker's thread, its events are read in the event loop."""

import asyncio
import time

import torch

from dialogue.engine.base import FinishReason, GenerationEvent, GenerationFinished, GenerationRequest, TextDelta
from dialogue.engine.event_mailbox import EventMailbox
from dialogue.engine.local.text_stream import Decode, TextStream
from dialogue.engine.local.token_choice import choose_token
from dialogue.engine.stops import StopFilter
from dialogue.errors import DialogueError

SEED_BITS = (1 << 63) - 1  # what torch takes


class Reply:
    """The state of one request. Made in the event loop."""

    def __init__(self, request: GenerationRequest, beginning: tuple[int, ...], limit: int, eos_ids: frozenset[int], decode: Decode) -> None:
        self.request = request
        self.beginning = beginning
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the worker has let go of it
        self.unwanted = False  # nobody reads any more
        self._loop = asyncio.get_running_loop()
        self._events = EventMailbox()
        self._limit = limit
        self._eos_ids = eos_ids
        self._text = TextStream(decode)
        self._stops = StopFilter(request.sampling.stop)
        self._random = torch.Generator().manual_seed(request.sampling.seed & SEED_BITS)
        self._made: list[int] = []
        self._began = self._prompted = 0.0

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        return await self._events.next()

    def fail(self, error: DialogueError) -> None:
        """End with an error, unless it has ended. In the loop."""
        self.unwanted = True
        self._events.put(error)

    def begin(self) -> None:
        """The encoder begins to read. From here on in the worker's thread."""
        self._began = time.monotonic()

    def take(self, logits: torch.Tensor) -> int | None:
        """Choose the next token from one row of logits, (vocabulary,); None = the reply has ended."""
        if not self._made:
            self._prompted = time.monotonic()
        sampling = self.request.sampling
        if sampling.ignore_eos:
            logits = logits.index_fill(0, torch.tensor(sorted(self._eos_ids), device=logits.device), -torch.inf)
        token = choose_token(logits, sampling, self._made, self._random)
        self._made.append(token)
        if token in self._eos_ids:
            return self._finish(FinishReason.STOP)
        self._show(self._stops.push(self._text.push(token)))
        if self._stops.stopped:
            return self._finish(FinishReason.STOP)
        return self._finish(FinishReason.LENGTH) if len(self._made) >= self._limit else token

    def break_off(self, error: DialogueError) -> None:
        """End with an error, in the worker's thread."""
        self._events.post(error)

    def let_go(self) -> None:
        """The worker is done with the reply."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _finish(self, reason: FinishReason) -> None:
        if not self._stops.stopped:
            self._show(self._stops.push(self._text.flush()))
            self._show(self._stops.flush())
        now = time.monotonic()
        self._events.post(
            GenerationFinished(
                FinishReason.STOP if self._stops.stopped else reason,
                prompt_tokens=len(self.request.prompt),
                completion_tokens=len(self._made),
                prompt_ms=(self._prompted - self._began) * 1000,
                generation_ms=(now - self._prompted) * 1000,
            )
        )

    def _show(self, text: str) -> None:
        if text:
            self._events.post(TextDelta(text))
