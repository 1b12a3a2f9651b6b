"""One request to llama.cpp's server: what is sent, and its chunks as engine events. Pure but for handing events to the loop."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dialogue.engine.base import GenerationEvent, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.completion_stream import CompletionStream, StreamBroken
from dialogue.engine.event_mailbox import EventMailbox
from dialogue.engine.stops import StopFilter
from dialogue.errors import DialogueError, EngineError, EngineUnavailable, RequestTooLong

OnChunk = Callable[[str], bool]  # takes a chunk as JSON; True stops the generation

SEEDS = 1 << 32  # llama.cpp's are unsigned 32-bit numbers …
RANDOM_SEED = SEEDS - 1  # … and this one means "any"
PENALTY_WINDOW = 64  # last tokens that the repetition penalty looks at: llama.cpp's own; names and figures further up stay sayable
# Seconds between two events of one generation, faster than anybody reads. Every event wakes threads in two processes; token
# by token that keeps a fast model on two cores from computing.
SHOW_EVERY_S = 0.1
_NEUTRAL = {
    "min_p": 0.0,
    "typical_p": 1.0,
    "xtc_probability": 0.0,
    "dry_multiplier": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def body(request: GenerationRequest, slot: int, limit: int, lora: Sequence[Mapping[str, float]]) -> str:
    """Return the JSON of a request for at most `limit` tokens in `slot`.

    Stop strings are ours to find: the server would swallow the beginning of one that is never completed.
    """
    return json.dumps(
        {
            "prompt": request.prompt,
            "n_predict": limit,
            "id_slot": slot,
            "lora": lora,
            "cache_prompt": True,
            "stream": True,
            "return_progress": True,  # a chunk for each batch of the prompt: only at a chunk can a request be cancelled
            "timings_per_token": bool(request.sampling.stop),  # the last chunk is not waited for when a stop string is met
            **sampling(request.sampling),
        }
    )


def sampling(params: SamplingParams) -> dict[str, Any]:
    """Return llama.cpp's words for `params`, every other sampler off."""
    return {
        "samplers": ["penalties", "top_k", "top_p", "temperature"],
        "temperature": params.temperature,
        "top_k": params.top_k if params.temperature else 1,
        "top_p": params.top_p if params.temperature else 1.0,
        "repeat_penalty": params.repetition_penalty,
        "repeat_last_n": PENALTY_WINDOW,
        "seed": params.seed % RANDOM_SEED,
        "ignore_eos": params.ignore_eos,
        **_NEUTRAL,
    }


class Generation:
    """The events of one request: made in a worker thread, read in the event loop."""

    def __init__(self, request: GenerationRequest, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events = EventMailbox()
        self._stream = CompletionStream(len(request.prompt), StopFilter(request.sampling.stop))
        self._unshown = ""
        self._show_at = 0.0  # on the clock; the first text is shown at once
        self._unwanted = False
        self.generated: int | None = None  # tokens after the prompt; known after the last chunk

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        return await self._events.next()

    def fail(self, error: DialogueError) -> None:
        """End with an error, unless it has ended. In the loop."""
        self._unwanted = True
        self._events.put(error)

    def cancel(self) -> None:
        """Nobody reads any more: the server is told so at its next chunk."""
        self._unwanted = True

    def on_chunk(self, data: str) -> bool:
        """Take a chunk of the server, in the worker thread; True tells the server to stop."""
        if self._unwanted:
            return True
        try:
            delta = self._stream.feed(data)
        except StreamBroken as error:
            self._show()
            self._events.post(_translate(error))
            return True
        if delta is not None:
            self._unshown += delta.text
            self._show(when_due=True)
        if self._stream.reason is not None:
            self._finish()
        return self._stream.ended

    def on_end(self, error: Exception | None = None) -> None:
        """The server is done with the request, in the worker thread; whoever got his last event does not notice."""
        self._show()
        self._events.post(EngineUnavailable(f"llama.cpp gave up the request{f': {error}' if error else ''}"))

    def _finish(self) -> None:
        if (rest := self._stream.rest()) is not None:
            self._unshown += rest.text
        self._show()
        finished = self._stream.finished(0.0, 0.0)
        if not self._stream.ended:  # else a stop string was met, and the server is some tokens further
            self.generated = finished.completion_tokens
        self._events.post(finished)

    def _show(self, *, when_due: bool = False) -> None:
        """Hand on the text so far; `when_due` = only if the last was not handed on a moment ago."""
        now = self._clock()
        if self._unshown and not (when_due and now < self._show_at):
            self._events.post(TextDelta(self._unshown))
            self._unshown, self._show_at = "", now + SHOW_EVERY_S


def _translate(error: StreamBroken) -> EngineError:
    if "exceed" in str(error) and error.status == 400:
        return RequestTooLong(f"llama.cpp refuses the request: {error}")
    return EngineError(f"llama.cpp refuses the request: {error}") if error.status < 500 else EngineUnavailable(f"llama.cpp failed: {error}")
