"""One question, one answer, for `kefu ask`: a channel whose platform is a coroutine that waits.

Each question is a conversation of its own, so nothing of one stands in the prompt of another. It goes the way of every
message; when the process dies, nobody waits any more, and housekeeping puts the remains aside (`bot.housekeeping`).
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from bot.channels.base import (
    ChannelCapabilities,
    Inlet,
    OutgoingReply,
    PlaceholderSlot,
    Progress,
    ReplyStream,
    ReplyTarget,
    SimpleChannel,
)
from bot.channels.json_event import read_object, text_field
from dialogue.messages import ConversationKey, IncomingMessage, ReplyCommitted, ReplyEvent, ReplyTimings, Sender
from dialogue.normalise import clean_text
from storage.ids import new_id
from storage.records import InboxRecord, NewInboxItem, TurnRecord, TurnStatus


@dataclass(frozen=True, slots=True)
class AskResult:
    """An answer and what it was made of."""

    answer: str
    turn_id: str
    turn: TurnRecord | None  # None = words said instead of an answer, because there could be none
    timings: ReplyTimings

    def as_json(self) -> dict[str, Any]:
        """Return what `kefu ask --json` prints."""
        turn, timings = self.turn, self.timings
        return {
            "answer": self.answer,
            "turn_id": self.turn_id,
            "status": turn.status.value if turn else TurnStatus.FAILED.value,
            "skill": turn.skill if turn else "",
            "engine": turn.engine if turn else "",
            "adapter": turn.adapter if turn else "",
            "tokens": {"prompt": timings.prompt_tokens, "cached": timings.cached_tokens, "completion": timings.completion_tokens},
            "timings_ms": {
                "queue": round(timings.queue_ms, 1),
                "first_token": round(timings.first_token_ms, 1),
                "total": round(timings.total_ms, 1),
            },
        }


@dataclass(slots=True)
class _Asker:
    committed: ReplyCommitted | None = None
    answer: asyncio.Future[AskResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, text: str, turn_id: str) -> None:
        """Give the answer to who waits for it; once."""
        turn = None if self.committed is None else self.committed.turn
        timings = ReplyTimings() if self.committed is None else self.committed.timings
        if not self.answer.done():
            self.answer.set_result(AskResult(text, turn_id, turn, timings))


class AskChannel(SimpleChannel):
    """Lives as long as its process; its account is its own, so that no other process takes its questions."""

    name = "ask"
    capabilities = ChannelCapabilities(joins_bursts=False, resend_is_safe=True, timeout_s=5.0, is_local=True)

    def __init__(self, *, user: str, max_chars: int) -> None:
        self.account = new_id()
        self._user = user
        self._max_chars = max_chars
        self._askers: dict[str, _Asker] = {}  # by chat

    async def ask(self, text: str, inlet: Inlet) -> AskResult:
        """Return the answer to `text`. Raises StorageError."""
        chat = new_id()
        asker = self._askers[chat] = _Asker()
        raw = json.dumps({"text": clean_text(text, self._max_chars).text, "chat": chat}, ensure_ascii=False).encode()
        try:
            await inlet.accept([NewInboxItem(chat, chat, raw)])
            return await asker.answer
        finally:
            del self._askers[chat]

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._askers)

    async def receive(self, inlet: Inlet) -> None:  # noqa: ARG002 - questions come in by `ask`
        await asyncio.Event().wait()

    def parse(self, item: InboxRecord) -> IncomingMessage | None:
        event = read_object(item.raw)
        text, chat = text_field(event, "text"), text_field(event, "chat")
        if chat not in self._askers:
            return None
        return IncomingMessage(ConversationKey(self.name, self.account, chat), Sender(self._user), text, is_private=True)

    def open_reply(self, target: ReplyTarget, slot: PlaceholderSlot) -> ReplyStream:  # noqa: ARG002 - there is no screen
        return _AskStream(self._askers.get(target.conversation.chat))

    async def deliver(self, reply: OutgoingReply, progress: Progress) -> None:  # noqa: ARG002 - nothing here can be half sent
        asker = self._askers.get(reply.conversation.chat)
        if asker is not None:
            asker.end(reply.row.text, reply.row.turn_id or "")


class _AskStream:
    """Remembers how the turn ended."""

    def __init__(self, asker: _Asker | None) -> None:
        self._asker = asker

    async def show(self, event: ReplyEvent) -> None:
        if self._asker is None or not isinstance(event, ReplyCommitted):
            return
        self._asker.committed = event
        if event.outbox_id is None:
            self._asker.end("", event.turn.id)

    async def close(self) -> None:
        """Nothing is ever in flight."""
