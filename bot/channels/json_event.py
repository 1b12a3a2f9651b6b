"""Raw events that are JSON objects, read without trust."""

import json

from bot.channels.base import UnparsableEvent


def read_object(raw: bytes) -> dict[str, object]:
    """Return the object that `raw` holds. Raises UnparsableEvent for everything else, whatever it is."""
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnparsableEvent(f"no JSON: {type(error).__name__}") from None
    if not isinstance(event, dict):
        raise UnparsableEvent(f"an object is expected, not {type(event).__name__}")
    return {str(key): value for key, value in event.items()}


def text_field(event: dict[str, object], name: str) -> str:
    """Return a field that must be text. Raises UnparsableEvent."""
    value = event.get(name)
    if not isinstance(value, str):
        raise UnparsableEvent(f"no text in field {name}")
    return value
