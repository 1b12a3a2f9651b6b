"""One reply of a decoder: its tokens come in the worker's thread, its events are read in the event loop."""

import time
from collections import deque

import torch

from dialogue.engine.base import FinishReason, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.local.reply_stream import ReplyStream
from dialogue.engine.local.scheduler import Sequence
from dialogue.engine.local.text_stream import Decode
from dialogue.engine.local.token_sampling import Draw
from dialogue.errors import DialogueError

SEED_BITS = (1 << 63) - 1  # what torch takes


class DecoderReply:
    """The state of one request. Made in the event loop."""

    def __init__(self, request: GenerationRequest, adapter: int, limit: int, eos_ids: frozenset[int], decode: Decode) -> None:
        self.request = request
        self.sequence = Sequence(list(request.prompt), adapter, request.cache_key, room=len(request.prompt) + limit)
        self.has_begun = False  # it has had a slot
        self._stream = ReplyStream(decode, request.sampling.stop)
        self.done = self._stream.done  # the worker has let go of it
        self._eos_ids = eos_ids
        self._never = tuple(sorted(eos_ids)) if request.sampling.ignore_eos else ()
        self._random = torch.Generator().manual_seed(request.sampling.seed & SEED_BITS)
        self._points: deque[float] = deque()  # drawn for the next tokens, those that are unread included
        self._submitted = self._began = self._prompted = time.monotonic()

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        return await self._stream.next()

    def fail(self, error: DialogueError) -> None:
        """End with an error, unless it has ended. In the loop."""
        self.sequence.cancelled = True
        self._stream.fail(error)

    def give_up(self) -> None:
        """Nobody reads any more. In the loop."""
        self.sequence.cancelled = True

    def begin(self) -> None:
        """It has got its slot. From here on in the worker's thread."""
        self.has_begun, self._began = True, time.monotonic()

    def draw(self, unread: int | None = None) -> Draw:
        """Return what its next token is chosen by; the same again when the step has to be computed again.

        `unread` is where the device has its last token, when that has not been read yet.
        """
        while len(self._points) <= self.sequence.unread:
            self._points.append(float(torch.rand((), generator=self._random, dtype=torch.float64)))
        return Draw(self.request.sampling, self._made(), self._points[self.sequence.unread], self._never, unread)

    def take(self, token: int) -> bool:
        """Hear what the first of its unread tokens is. Returns whether another one follows."""
        if not self._made():
            self._prompted = time.monotonic()
        self.sequence.learn(token)
        self._points.popleft()
        if token in self._eos_ids:
            return self._finish(FinishReason.STOP)
        if self._stream.push(token):
            return self._finish(FinishReason.STOP)
        return len(self.request.prompt) + len(self._made()) < self.sequence.room or self._finish(FinishReason.LENGTH)

    def break_off(self, error: DialogueError) -> None:
        """End with an error, in the worker's thread."""
        self.sequence.cancelled = True
        self._stream.break_off(error)

    def let_go(self) -> None:
        """The worker is done with the reply."""
        self._stream.let_go()

    def _made(self) -> list[int]:
        """Return the tokens of the reply that are known."""
        return self.sequence.tokens[len(self.request.prompt) : len(self.sequence.tokens) - self.sequence.unread]

    def _finish(self, reason: FinishReason) -> bool:
        now = time.monotonic()
        self._stream.finish(
            GenerationFinished(
                reason,
                prompt_tokens=len(self.request.prompt),
                completion_tokens=len(self._made()),
                cached_tokens=self.sequence.cached or 0,
                queue_ms=(self._began - self._submitted) * 1000,
                prompt_ms=(self._prompted - self._began) * 1000,
                generation_ms=(now - self._prompted) * 1000,
            )
        )
        return False
