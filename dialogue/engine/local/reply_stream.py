"""From the worker's thread to the event loop: what a reply says, as events; and the word that the worker is done with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from dialogue.engine.base import FinishReason, GenerationEvent, GenerationFinished, TextDelta
from dialogue.engine.event_mailbox import EventMailbox
from dialogue.engine.local.text_stream import Decode, TextStream
from dialogue.engine.stops import StopFilter
from dialogue.errors import DialogueError


class ReplyStream:
    """The outgoing side of one reply. Made in the event loop."""

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the worker has let go of the reply
        self._loop = asyncio.get_running_loop()
        self._events = EventMailbox()
        self._text = TextStream(decode)
        self._stops = StopFilter(tuple(stop))

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        return await self._events.next()

    def fail(self, error: DialogueError) -> None:
        """End with an error, unless it has ended. In the loop."""
        self._events.put(error)

    def push(self, token: int) -> bool:
        """Say a token, as far as it is text already. Returns whether a stop string has ended the reply. In the worker's thread."""
        self._show(self._stops.push(self._text.push(token)))
        return self._stops.stopped

    def finish(self, event: GenerationFinished) -> None:
        """Say what was held back, then the end. In the worker's thread."""
        if not self._stops.stopped:
            self._show(self._stops.push(self._text.flush()))
            self._show(self._stops.flush())
        self._events.post(replace(event, reason=FinishReason.STOP) if self._stops.stopped else event)

    def break_off(self, error: DialogueError) -> None:
        """End with an error. In the worker's thread."""
        self._events.post(error)

    def let_go(self) -> None:
        """The worker is done with the reply."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _show(self, text: str) -> None:
        if text:
            self._events.post(TextDelta(text))
