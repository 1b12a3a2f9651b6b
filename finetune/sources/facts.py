"""Facts that a text shall hold: `name[Alimentum], area[city centre]`, an object, or a list of words."""

import re
from typing import Any, Final

_SLOT: Final = re.compile(r"([^,\[\]]+)\[([^\[\]]*)\]")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SAID_OTHERWISE: Final = frozenset({"", "yes", "no", "true", "false", "none"})  # "family-friendly" says yes without the word


def read_slots(value: Any) -> list[tuple[str, str]]:
    """Return names and values; words without a name have the name ""."""
    if isinstance(value, dict):
        return [(str(name), str(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [("", str(each)) for each in value]
    slots = [(name.strip(), each.strip()) for name, each in _SLOT.findall(str(value))]
    return slots or [("", str(value).strip())]


def say_slots(slots: list[tuple[str, str]]) -> str:
    """Return the facts as a person would hand them in: "name: Alimentum; family friendly: no"."""
    return "; ".join(f"{_words(name)}: {value}" if name else value for name, value in slots)


def checkable(slots: list[tuple[str, str]], text: str) -> tuple[str, ...]:
    """Return the values that a right text repeats word by word: those that this one does."""
    folded = text.casefold()
    return tuple(value for _, value in slots if value.casefold() not in _SAID_OTHERWISE and value.casefold() in folded)


def _words(name: str) -> str:
    return _CAMEL.sub(" ", name).replace("_", " ").lower()
