"""Fields of an update, read without trust: what is missing or of another type than the Bot API says is not there."""

import re
from collections.abc import Mapping
from typing import Final

from bot.channels.base import UnparsableEvent

Fields = Mapping[str, object]

_NOTHING: Final[Fields] = {}
_ID_LIMIT: Final = 2**52  # ids have at most 52 significant bits
_REF: Final = re.compile(r"[!-~]{1,256}")  # what Telegram hands out to be handed back: file ids, ids of presses


def object_field(source: Fields, name: str) -> Fields:
    """Return the object in field `name`; an empty one when there is none."""
    return _as_object(source.get(name))


def objects_field(source: Fields, name: str) -> list[Fields]:
    """Return the objects of the array in field `name`, without whatever else stands in it."""
    value = source.get(name)
    return [_as_object(entry) for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def text_field(source: Fields, name: str) -> str:
    """Return the text in field `name`; "" when there is none."""
    value = source.get(name)
    return value if isinstance(value, str) else ""


def ref_field(source: Fields, name: str) -> str:
    """Return the opaque id in field `name`; "" when there is none that could be one."""
    value = text_field(source, name)
    return value if _REF.fullmatch(value) else ""


def number_field(source: Fields, name: str) -> int | None:
    """Return the integer in field `name`, None when there is none or it has more bits than Telegram uses."""
    value = source.get(name)
    # true is an int in Python, not in JSON
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _ID_LIMIT else None


def required_number(source: Fields, name: str) -> int:
    """Return the integer in field `name`. Raises UnparsableEvent."""
    value = number_field(source, name)
    if value is None:
        raise UnparsableEvent(f"no number in field {name}")
    return value


def utf16_slice(text: str, start: int, stop: int | None = None) -> str:
    """Return what stands between two offsets in UTF-16 code units, in which Telegram counts."""
    units = text.encode("utf-16-le", "surrogatepass")
    return units[2 * start : None if stop is None else 2 * stop].decode("utf-16-le", "surrogatepass")


def _as_object(value: object) -> Fields:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else _NOTHING
