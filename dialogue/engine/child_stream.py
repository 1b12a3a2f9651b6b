"""The events of one request on their way from the child to whoever asked."""

import asyncio
from collections.abc import Callable

from dialogue.engine.base import GenerationEvent, GenerationFinished
from dialogue.errors import DialogueError


class ChildStream:
    """The events of one request."""

    def __init__(self, number: int, request_id: str, on_end: Callable[[], None]) -> None:
        self.number = number
        self.request_id = request_id
        self.begun = False  # the child has it; before that, its death is not this request's doing
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_end = on_end
        self._items: asyncio.Queue[GenerationEvent | DialogueError] = asyncio.Queue()

    async def next(self) -> GenerationEvent:
        """Return the next event. Raises what ended the stream."""
        item = await self._items.get()
        if isinstance(item, DialogueError):
            raise item
        return item

    def put(self, event: GenerationEvent) -> None:
        """Hand over an event that is not the last one."""
        self._items.put_nowait(event)

    def end(self, last: GenerationFinished | DialogueError) -> None:
        """End the stream, once. What it held is given back before anybody hears of the end."""
        if not self.ended.done():
            self.ended.set_result(None)
            self._on_end()
            self._items.put_nowait(last)
