"""Between a generation and the previews of a channel: whatever a preview does, it neither slows nor breaks the answer.

A task of its own feeds the channel's ReplyStream. While the platform is slow, text that comes meanwhile is joined, so a
stream may simply wait for its platform. The first error ends the previews of this answer; the final text goes out anyway.
"""

import asyncio
from collections import deque
from typing import Self

import structlog

from bot.channels.base import DeliveryError, ReplyStream
from dialogue.messages import ReplyCommitted, ReplyDelta, ReplyEvent, ReplyRestarted
from storage.errors import StorageError

CLOSE_S = 20.0  # a preview that hangs longer than this is cancelled

log = structlog.get_logger(__name__)


class Preview:
    """Takes the events of one reply without ever waiting; used as an async context manager.

    Leaving the block ends the previews: events that were not shown yet are dropped, except the ReplyCommitted. A `silent`
    one shows nothing but that.
    """

    def __init__(self, stream: ReplyStream, *, turn_id: str, silent: bool = False) -> None:
        self._stream = stream
        self._turn_id = turn_id
        self._silent = silent
        self._waiting: deque[ReplyEvent] = deque()
        self._changed = asyncio.Event()
        self._closing = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._feed())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._changed.set()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._task
                await self._stream.close()
        except TimeoutError:
            log.warning("preview.hung", turn_id=self._turn_id, limit_s=CLOSE_S)
        except Exception:
            log.exception("preview.close_failed", turn_id=self._turn_id)
        finally:
            self._task.cancel()

    def show(self, event: ReplyEvent) -> None:
        """Queue an event for the channel."""
        if self._silent and not isinstance(event, ReplyCommitted):
            return
        if isinstance(event, ReplyRestarted):  # what waits is void
            self._waiting.clear()
        last = self._waiting[-1] if self._waiting else None
        if isinstance(event, ReplyDelta) and isinstance(last, ReplyDelta):
            self._waiting[-1] = ReplyDelta(last.text + event.text)
        else:
            self._waiting.append(event)
        self._changed.set()

    async def _feed(self) -> None:
        try:
            while (event := await self._next()) is not None:
                await self._stream.show(event)
        except (DeliveryError, StorageError) as error:
            log.info("preview.ended", turn_id=self._turn_id, reason=str(error))
        except Exception:
            log.exception("preview.failed", turn_id=self._turn_id)

    async def _next(self) -> ReplyEvent | None:
        while not self._waiting and not self._closing:
            self._changed.clear()
            await self._changed.wait()
        while self._waiting:
            event = self._waiting.popleft()
            if not self._closing or isinstance(event, ReplyCommitted):
                return event
        return None
