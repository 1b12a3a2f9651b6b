"""The people's side of a fake Telegram in another process: what `FakeTelegram` offers, without asyncio, for crash tests and benches."""

import base64
import json
from typing import Any, Self

import httpx2

from bot.channels.telegram.fake_chats import Call, Draft, Press, Shown
from bot.channels.telegram.fake_control import encoded
from bot.channels.telegram.fake_faults import Fault, FaultKind
from bot.channels.telegram.fake_people import FIRST_USER


class FakeTelegramClient:
    """`base_url` is what the server printed."""

    def __init__(self, base_url: str, *, timeout_s: float = 30.0) -> None:
        self.base_url = base_url
        self._http = httpx2.Client(base_url=base_url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def call(self, operation: str, /, *args: Any, **arguments: Any) -> Any:
        """Run an operation of the server and return its result as JSON has it; raise ValueError if it refuses."""
        body = json.dumps({"args": args, **arguments}, default=encoded)
        response = self._http.post(f"/_fake/{operation}", content=body)
        if response.status_code != 200:
            raise ValueError(response.json()["error"])
        return response.json()

    def say(self, text: str, *, chat: int = FIRST_USER, user: int | None = None, **fields: Any) -> int:
        """Somebody writes; return the id of the message."""
        return int(self.call("say", text, chat=chat, user=user, **fields)["message_id"])

    def send_file(self, kind: str, *, chat: int = FIRST_USER, data: bytes = b"", **fields: Any) -> int:
        """Somebody sends a file; return the id of the message."""
        return int(self.call("send_file", kind, chat=chat, data=data, **fields)["message_id"])

    def edit(self, message_id: int, text: str, *, chat: int = FIRST_USER) -> None:
        """The author edits a message."""
        self.call("edit", message_id, text, chat=chat)

    def press(self, data: str, *, chat: int = FIRST_USER, user: int | None = None, message_id: int | None = None) -> Press:
        """Somebody presses the newest button with this data; raise ValueError if nobody sees one."""
        return Press(**self.call("press", data, chat=chat, user=user, message_id=message_id))

    def push(self, update: dict[str, Any] | bytes, *, owner: int = 0) -> int:
        """Queue a raw update; return its update_id."""
        return int(self.call("push", update, owner=owner))

    def screen(self, chat: int = FIRST_USER) -> tuple[Shown, ...]:
        """Return what people see in a chat now, oldest first."""
        return tuple(_shown(shown) for shown in self.call("screen", chat))

    def drafts(self, chat: int | None = None) -> tuple[Draft, ...]:
        """Return the previews that were ever shown."""
        return tuple(Draft(**draft) for draft in self.call("drafts", chat))

    def transcript(self, method: str | None = None) -> tuple[Call, ...]:
        """Return the calls of the bot, oldest first."""
        return tuple(Call(**call) for call in self.call("transcript", method))

    def file(self, file_id: str) -> bytes:
        """Return the content of a file."""
        return base64.b64decode(self.call("file", file_id)["base64"])

    def pending(self) -> int:
        """Return how many updates wait for the bot."""
        return int(self.call("pending"))

    def violations(self) -> int:
        """Return how many calls came inside a `retry_after`."""
        return len(self.call("violations"))

    def settle(self) -> int:
        """Let every call that was to take effect late take effect now."""
        return int(self.call("settle"))

    def script(self, method: str, *faults: Fault | FaultKind | None) -> None:
        """Let the next calls of a method end like this."""
        self.call("script_fault", method, [Fault(fault) if isinstance(fault, FaultKind) else fault for fault in faults])


def _shown(values: dict[str, Any]) -> Shown:
    rows = tuple(tuple(row) for row in values.pop("buttons"))
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Shown(buttons=rows, **lists)
