"""A messaging platform in a file: it outlives the program that talks to it, however that ends.

Every event is one line, written with a single append, so what was written before a kill -9 is there afterwards. People
(the harness) and the bot (the child process) write to the same file; both read it again to know what happened.
"""

import asyncio
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.channels.fake_platform import FakeUpdate, PlatformTimeout
from storage.ids import new_id

LOOK_S = 0.003  # how often the bot's side looks for new lines


@dataclass
class Shown:
    """One message on the screen."""

    chat: str
    text: str


@dataclass
class JournalPlatform:
    """`bot.channels.fake.Platform` in a file. `lost` is the share of accepted calls whose response never arrives."""

    path: Path
    lost: float = 0.0
    seed: int = 0
    updates_waiting: dict[int, FakeUpdate] = field(default_factory=dict)
    messages: dict[str, Shown] = field(default_factory=dict)
    _read_bytes: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def say(self, number: int, chat: str, text: str) -> None:
        """A person writes."""
        raw = json.dumps({"id": number, "chat": chat, "from": f"user of {chat}", "text": text})
        self._append(op="say", number=number, chat=chat, raw=raw)

    def confirm(self, number: int) -> None:
        """Forget every update up to this one."""
        self._append(op="confirm", number=number)

    async def updates(self, after: int | None) -> Sequence[FakeUpdate]:
        if after is not None:
            self.confirm(after)
        while True:
            self.look()
            if self.updates_waiting:
                return [self.updates_waiting[number] for number in sorted(self.updates_waiting)]
            await asyncio.sleep(LOOK_S)

    async def send(self, chat: str, text: str, reply_to: str = "") -> str:
        ref = new_id()
        self._append(op="send", ref=ref, chat=chat, text=text)
        await self._respond()
        return ref

    async def edit(self, chat: str, ref: str, text: str) -> None:
        self._append(op="edit", ref=ref, text=text)
        await self._respond()

    def settle(self) -> None:
        """Nothing is ever late here."""

    def look(self) -> None:
        """Take note of what was written since the last look."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        match event["op"]:
            case "say":
                self.updates_waiting[event["number"]] = FakeUpdate(event["number"], event["chat"], event["raw"].encode())
            case "confirm":
                self.updates_waiting = {number: update for number, update in self.updates_waiting.items() if number > event["number"]}
            case "send":
                self.messages[event["ref"]] = Shown(event["chat"], event["text"])
            case "edit":
                self.messages[event["ref"]].text = event["text"]

    def _append(self, **event: Any) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(event).encode() + b"\n")
        finally:
            os.close(descriptor)

    async def _respond(self) -> None:
        await asyncio.sleep(0.001)
        if self._chance.random() < self.lost:
            raise PlatformTimeout
