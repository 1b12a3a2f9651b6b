"""A messaging platform in memory that behaves as badly as real ones: ships for tests of bots, channels and the framework.

`faults` names what goes wrong with each call. An update is forgotten once a higher one was asked for, as with Telegram, so
whoever acknowledges too early loses messages here as well. The transcript is what people really saw.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

PLACEHOLDER = "…"


class FaultKind(StrEnum):
    LOST = "lost"  # accepted, the response never arrives
    LATE = "late"  # no response; accepted only when `settle` is called
    UNREACHABLE = "unreachable"  # certainly not accepted
    BUSY = "busy"  # certainly not accepted; come back after `after_s`
    REFUSED = "refused"  # the user blocked the bot
    SLOW = "slow"  # answers only when `gate` is set


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    after_s: float = 1.0  # of BUSY only


@dataclass(frozen=True, slots=True)
class FakeUpdate:
    """One event that waits at the platform."""

    number: int
    chat: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class FakeMessage:
    """One message on the screen. `texts` holds every text that it ever showed, the newest last."""

    ref: str
    chat: str
    reply_to: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.texts[-1]


class PlatformTimeout(Exception):
    """The platform did not answer."""


class PlatformUnreachable(Exception):
    """There was no connection."""


class PlatformRefused(Exception):
    """The platform will never take this."""


class PlatformBusy(Exception):
    def __init__(self, after_s: float) -> None:
        super().__init__(f"retry after {after_s} s")
        self.after_s = after_s


FaultRule = Callable[[str, str], Fault | None]


class Platform(Protocol):
    """What FakeChannel needs of a platform; `FakePlatform` is one, a test may bring another."""

    async def updates(self, after: int | None) -> Sequence[FakeUpdate]: ...

    async def send(self, chat: str, text: str, reply_to: str = "") -> str: ...

    async def edit(self, chat: str, ref: str, text: str) -> None: ...

    def settle(self) -> None: ...


class FakePlatform:
    """People write with `say`, bots call `updates`, `send` and `edit`."""

    def __init__(self, faults: FaultRule | None = None) -> None:
        self.script: deque[Fault | None] = deque()  # faults of the next calls, in order; before those of `faults`
        self.gate = asyncio.Event()
        self.held = 0  # SLOW calls that wait for the gate
        self.faults = faults or (lambda _operation, _chat: None)
        self._updates: list[FakeUpdate] = []
        self._next_number = 1
        self._messages: dict[str, FakeMessage] = {}
        self._late: list[Callable[[], object]] = []
        self._changed = asyncio.Event()

    def say(self, text: str, *, chat: str = "chat", sender: str = "ann", is_private: bool = True) -> int:
        """A person writes; return the number of the update."""
        event = {"id": self._next_number, "chat": chat, "from": sender, "text": text, "private": is_private}
        return self.push(json.dumps(event, ensure_ascii=False).encode(), chat=chat)

    def push(self, raw: bytes, *, chat: str = "chat") -> int:
        """Queue raw bytes as an update, whatever they are; return its number."""
        number = self._next_number
        self._next_number += 1
        self._updates.append(FakeUpdate(number, chat, raw))
        self._notify()
        return number

    async def updates(self, after: int | None) -> Sequence[FakeUpdate]:
        """Forget every update up to `after`, then wait until there are newer ones."""
        self._updates = [update for update in self._updates if update.number > (after or 0)]
        while not self._updates:
            await self.changed()
        return tuple(self._updates)

    async def send(self, chat: str, text: str, reply_to: str = "") -> str:
        """Show a new message and return its id; calling it twice shows two."""
        return await self._call("send", chat, lambda: self._show(chat, text, reply_to))

    async def edit(self, chat: str, ref: str, text: str) -> None:
        """Let message `ref` show `text`; calling it twice changes nothing."""
        await self._call("edit", chat, lambda: self._change(ref, text))

    def settle(self) -> None:
        """Let every late request take effect now."""
        while self._late:
            self._late.pop(0)()

    def transcript(self, chat: str = "chat") -> tuple[FakeMessage, ...]:
        """Return what stands in a chat, oldest first."""
        return tuple(message for message in self._messages.values() if message.chat == chat)

    def shown(self, chat: str = "chat") -> tuple[str, ...]:
        """Return the texts that stand in a chat, oldest first, without placeholders that never got one."""
        return tuple(message.text for message in self.transcript(chat) if message.text != PLACEHOLDER)

    async def changed(self) -> None:
        """Wait until anything happens on the platform."""
        await self._changed.wait()

    async def _call(self, operation: str, chat: str, effect: Callable[[], str]) -> str:
        fault = self.script.popleft() if self.script else self.faults(operation, chat)
        if fault is None:
            return effect()
        match fault.kind:
            case FaultKind.SLOW:
                await self._hold()
                return effect()
            case FaultKind.UNREACHABLE:
                raise PlatformUnreachable
            case FaultKind.BUSY:
                raise PlatformBusy(fault.after_s)
            case FaultKind.REFUSED:
                raise PlatformRefused
            case FaultKind.LATE:
                self._late.append(effect)
            case FaultKind.LOST:
                effect()
        raise PlatformTimeout

    async def _hold(self) -> None:
        self.held += 1
        self._notify()
        try:
            await self.gate.wait()
        finally:
            self.held -= 1

    def _show(self, chat: str, text: str, reply_to: str) -> str:
        ref = str(len(self._messages) + 1)
        self._messages[ref] = FakeMessage(ref, chat, reply_to, (text,))
        self._notify()
        return ref

    def _change(self, ref: str, text: str) -> str:
        message = self._messages[ref]
        if message.text != text:
            self._messages[ref] = replace(message, texts=(*message.texts, text))
            self._notify()
        return ref

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
