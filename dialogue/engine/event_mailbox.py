"""How the events of one generation get from the thread that makes them to the event loop that reads them."""

import asyncio

from dialogue.engine.base import GenerationEvent
from dialogue.errors import DialogueError


class EventMailbox:
    """A queue of events that a thread fills and the loop empties. Made in the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[GenerationEvent | DialogueError] = asyncio.Queue()

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the generation."""
        event = await self._events.get()
        if isinstance(event, DialogueError):
            raise event
        return event

    def put(self, event: GenerationEvent | DialogueError) -> None:
        """Add an event, in the loop."""
        self._events.put_nowait(event)

    def post(self, event: GenerationEvent | DialogueError) -> None:
        """Add an event, in any thread; a loop that has ended reads no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
