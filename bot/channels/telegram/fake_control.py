"""The people's side over HTTP, for a test whose bot and fake Telegram run in other processes: POST /_fake/NAME with JSON arguments."""

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from bot.channels.telegram.fake_chats import Message

OPERATIONS = frozenset({
    "say", "send_file", "forward", "edit", "press", "answer_to", "stop_draft", "start", "topic", "block", "unblock", "deactivate", "kick",
    "migrate", "push", "screen", "drafts", "draft", "transcript", "violations", "file", "pending", "settle", "script_fault", "set_limits",
    "revoke_token", "set_token", "down_for", "lost_formatting", "commands", "load_begin", "load_done", "load_result",
})  # fmt: skip


def control(target: object, name: str, body: bytes) -> tuple[int, bytes]:
    """Run an operation of `target`; return the status and the JSON of its result."""
    if name not in OPERATIONS:
        return 404, b'{"error":"no such operation"}'
    operation: Callable[..., Any] = getattr(target, name)
    try:
        arguments = json.loads(body or b"{}", object_hook=_decoded)
        result = operation(*arguments.pop("args", ()), **arguments)
    except (TypeError, ValueError, LookupError) as error:
        return 400, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
    return 200, json.dumps(result, default=encoded).encode()


def encoded(value: object) -> Any:
    """Return what stands in JSON for a value that has none: bytes, messages, records."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Message):
        return value.json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON")


def _decoded(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
