"""The terminal: one person, one conversation, through the same inbox, workers and outbox as every other channel.

What the person sees is a `Screen`'s business: `terminal_screen` has one for people, `terminal_pipe` one for programs.
The channel asks for the next line only when the last one was answered, so lines and answers alternate. An answer whose
question this session did not ask was owed by a former run; it is shown as such, whenever it comes.

Repeating a delivery is safe: within a session a row is shown once, and a new session begins on a new screen and says that
the answer is an old one.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Protocol

from bot.channels.base import (
    ChannelCapabilities,
    DeliveryUnknown,
    Inlet,
    OutgoingReply,
    PlaceholderSlot,
    Progress,
    ReplyStream,
    ReplyTarget,
    SimpleChannel,
    inbox_kind,
)
from bot.channels.json_event import read_object, text_field
from dialogue.messages import ConversationKey, IncomingMessage, ReplyCommitted, ReplyDelta, ReplyEvent, ReplyRestarted, ReplyWaiting, Sender
from dialogue.normalise import clean_text
from storage.ids import new_id
from storage.records import InboxRecord, NewInboxItem, TurnStatus

CHAT = "local"


class Screen(Protocol):
    """Where lines come from and answers go. Text is as it was stored; making it safe to print is the screen's task."""

    async def read_line(self) -> str | None:
        """Return the next line; None = the person leaves."""
        ...

    def wait(self, position: int = 0) -> None:
        """An answer is being made; before it stand `position` - 1 others, 0 = not known."""
        ...

    def write(self, text: str) -> None:
        """Show more of the answer that is being made."""
        ...

    def restart(self) -> None:
        """What was shown of this answer is void."""
        ...

    def finish(self, text: str) -> None:
        """The answer is exactly `text`: show what is missing of it. Raises OSError."""
        ...

    def owe(self, text: str) -> None:
        """Show the answer to a question of a former run. Raises OSError."""
        ...

    def note(self, text: str) -> None:
        """Show a remark of the program itself."""
        ...

    def close(self) -> None:
        """Leave everything as it was. Idempotent."""
        ...


@dataclass(slots=True)
class _Question:
    """A line that waits for its answer."""

    is_silent: bool
    answered: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def resolve(self, error: OSError | None = None) -> None:
        if self.answered.done():
            return
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


class TerminalChannel(SimpleChannel):
    """The conversation of the person who runs this process."""

    name = "terminal"
    capabilities = ChannelCapabilities(joins_bursts=False, resend_is_safe=True, timeout_s=5.0, is_local=True)

    def __init__(self, screen: Screen, *, user: str, max_chars: int, fresh: bool = False) -> None:
        self.account = user
        self.screen = screen
        self._max_chars = max_chars
        self._fresh = fresh
        self._questions: dict[str, _Question] = {}  # by event id
        self._turns: dict[str, str] = {}  # turn id → event id
        self._stops: set[str] = set()  # event ids
        self._delivered: set[str] = set()  # outbox ids
        self._inlet: Inlet | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def receive(self, inlet: Inlet) -> None:
        """Read lines and wait for each answer, until the person leaves. Raises OSError when nobody reads any more."""
        self._inlet = inlet
        try:
            if self._fresh:  # nobody waits for its answer: what is asked next comes after it anyway
                await self._submit("/new", inlet, is_silent=True)
            while (line := await self.screen.read_line()) is not None:
                cleaned = clean_text(line, self._max_chars)
                if cleaned.cut:
                    self.screen.note(f"this line is too long: {cleaned.cut} characters of it are left out")
                if cleaned.text.strip():
                    await self._ask(cleaned.text, inlet)
        finally:
            self.screen.close()

    def stop_answer(self) -> bool:
        """Stop the answer that is being made; return whether there was one that is not being stopped already."""
        is_busy = any(not question.is_silent for question in self._questions.values())
        if self._inlet is None or not is_busy or self._stopping is not None:
            return False
        self._stopping = asyncio.create_task(self._stop(self._inlet))
        return True

    def item(self, text: str) -> NewInboxItem:
        """Return a line as an event."""
        raw = json.dumps({"text": text}, ensure_ascii=False).encode()
        return NewInboxItem(new_id(), CHAT, raw, inbox_kind(text))

    def parse(self, item: InboxRecord) -> IncomingMessage | None:
        text = text_field(read_object(item.raw), "text")
        key = ConversationKey(self.name, self.account, CHAT)
        return IncomingMessage(key, Sender(self.account), text, is_private=True, message_ref=item.event_id)

    def open_reply(self, target: ReplyTarget, slot: PlaceholderSlot) -> ReplyStream:  # noqa: ARG002 - a terminal has no placeholder
        event_id = target.message.message_ref
        self._turns[target.turn_id] = event_id
        return _TerminalStream(self, self.screen, event_id)

    async def deliver(self, reply: OutgoingReply, progress: Progress) -> None:  # noqa: ARG002 - nothing here can be half sent
        row = reply.row
        if row.id in self._delivered:
            return
        event_id = self._turns.pop(row.turn_id or "", "")
        question = self._questions.pop(event_id, None)
        try:
            if question is None and event_id not in self._stops:
                self.screen.owe(row.text)
            elif question is not None and not question.is_silent:
                self.screen.finish(row.text)
        except OSError as error:
            if question is not None:
                question.resolve(error)
            raise DeliveryUnknown(f"standard output: {error.strerror}") from None
        self._delivered.add(row.id)
        if question is not None:
            question.resolve()

    def is_shown(self, event_id: str) -> bool:
        """Whether the answer to this event may appear while it is made."""
        question = self._questions.get(event_id)
        return question is not None and not question.is_silent

    def committed(self, event_id: str, event: ReplyCommitted) -> None:
        """Take note of how a turn ended."""
        question = self._questions.get(event_id)
        if question is None:
            return
        if event.turn.status is TurnStatus.STOPPED and event.turn.engine:  # otherwise the answer itself says so
            self.screen.note("stopped")
        if event.outbox_id is None:
            self.screen.note("a person has this conversation; your message is kept")
            del self._questions[event_id]
            question.resolve()

    async def _ask(self, text: str, inlet: Inlet) -> None:
        question = await self._submit(text, inlet)
        self.screen.wait()
        await question.answered
        self._stopping = None

    async def _submit(self, text: str, inlet: Inlet, *, is_silent: bool = False) -> _Question:
        item = self.item(text)
        question = self._questions[item.event_id] = _Question(is_silent)
        await inlet.accept([item])
        return question

    async def _stop(self, inlet: Inlet) -> None:
        item = self.item("/stop")
        self._stops.add(item.event_id)
        await inlet.accept([item])


class _TerminalStream:
    """Tokens as they come."""

    def __init__(self, channel: TerminalChannel, screen: Screen, event_id: str) -> None:
        self._channel = channel
        self._screen = screen
        self._event_id = event_id

    async def show(self, event: ReplyEvent) -> None:
        if isinstance(event, ReplyCommitted):
            self._channel.committed(self._event_id, event)
        elif self._channel.is_shown(self._event_id):
            self._preview(event)

    async def close(self) -> None:
        """Nothing is ever in flight."""

    def _preview(self, event: ReplyEvent) -> None:
        match event:
            case ReplyWaiting(position):
                self._screen.wait(position)
            case ReplyDelta(text):
                self._screen.write(text)
            case ReplyRestarted():
                self._screen.restart()
            case _:
                return
