"""One reply of an encoder–decoder: its tokens come in the worker's thread, its events are read in the event loop."""

import time

import torch

from dialogue.engine.base import FinishReason, GenerationEvent, GenerationFinished, GenerationRequest
from dialogue.engine.local.reply_stream import ReplyStream
from dialogue.engine.local.text_stream import Decode
from dialogue.engine.local.token_choice import choose_token
from dialogue.errors import DialogueError

SEED_BITS = (1 << 63) - 1  # what torch takes


class Reply:
    """The state of one request. Made in the event loop."""

    def __init__(self, request: GenerationRequest, beginning: tuple[int, ...], limit: int, eos_ids: frozenset[int], decode: Decode) -> None:
        self.request = request
        self.beginning = beginning
        self.unwanted = False  # nobody reads any more
        self._stream = ReplyStream(decode, request.sampling.stop)
        self.done = self._stream.done  # the worker has let go of it
        self._limit = limit
        self._eos_ids = eos_ids
        self._random = torch.Generator().manual_seed(request.sampling.seed & SEED_BITS)
        self._made: list[int] = []
        self._began = self._prompted = 0.0

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        return await self._stream.next()

    def fail(self, error: DialogueError) -> None:
        """End with an error, unless it has ended. In the loop."""
        self.unwanted = True
        self._stream.fail(error)

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
        if self._stream.push(token):
            return self._finish(FinishReason.STOP)
        return self._finish(FinishReason.LENGTH) if len(self._made) >= self._limit else token

    def break_off(self, error: DialogueError) -> None:
        """End with an error, in the worker's thread."""
        self._stream.break_off(error)

    def let_go(self) -> None:
        """The worker is done with the reply."""
        self._stream.let_go()

    def _finish(self, reason: FinishReason) -> None:
        now = time.monotonic()
        self._stream.finish(
            GenerationFinished(
                reason,
                prompt_tokens=len(self.request.prompt),
                completion_tokens=len(self._made),
                prompt_ms=(self._prompted - self._began) * 1000,
                generation_ms=(now - self._prompted) * 1000,
            )
        )
