"""From pydantic's list of mistakes to one sentence: which file or variable, which key, what is allowed. Never shows a secret."""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from bot.errors import SettingsError
from bot.settings_sources import SECRETS, Layer

_CREDENTIALS = re.compile(r"://[^/\s]*@")
_TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text", "array": "a list"}


def settings_error(error: ValidationError, model: type[BaseModel], layers: Sequence[Layer]) -> SettingsError:
    """Return the error to raise for the first mistake; `layers` (strongest first) tell where it was written."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    location = tuple(str(part) for part in first["loc"])[:2]
    layer = next((layer for layer in layers if layer.holds(location)), layers[0])
    problem, allowed = _explain(first, location, model)
    more = len(problems) - 1
    if more:
        problem += f" (and {more} more mistake{'s' if more > 1 else ''})"
    where, key = _place(layer, location)
    return SettingsError(where, key, problem, allowed)


def allowed_values(model: type[BaseModel], section: str, name: str) -> str:
    """Say in words what may stand in a setting: its type and range."""
    return _in_words(_properties(model, section)[name])


def _place(layer: Layer, location: tuple[str, ...]) -> tuple[str, str]:
    """Return the source and the key in the operator's own words."""
    written = next((name for key, name in layer.names.items() if key[: len(location)] == location), None)
    if written:
        return (layer.where, written) if layer.path or layer.where.startswith(".") else ("", written)
    return layer.where, f"[{location[0]}] {location[1]}" if len(location) > 1 else f"[{location[0]}]"


def _explain(problem: Mapping[str, Any], location: tuple[str, ...], model: type[BaseModel]) -> tuple[str, str]:
    if problem["type"] == "extra_forbidden":
        return _unknown(location, model)
    if len(location) < 2:
        return "is a section, not a value", f"a table: `[{location[0]}]` on a line of its own, its keys below"
    section, name = location
    shown = "" if (section, name) in SECRETS else f"{_shown(problem['input'])} "
    text = problem["msg"].removeprefix("Value error, ") if problem["type"] == "value_error" else "is not allowed"
    return f"{shown}{text}", allowed_values(model, section, name)


def _unknown(location: tuple[str, ...], model: type[BaseModel]) -> tuple[str, str]:
    sections = tuple(model.model_fields)
    if len(location) < 2:
        homes = [section for section in sections if location[0] in _properties(model, section)]
        guess = [f"[{home}] {location[0]}" for home in homes] or [
            f"[{match}]" for match in difflib.get_close_matches(location[0], sections, 1)
        ]
        return f"unknown section{_did_you_mean(guess)}", ", ".join(f"[{section}]" for section in sections)
    known = tuple(_properties(model, location[0]))
    return f"unknown key{_did_you_mean(difflib.get_close_matches(location[1], known, 1))}", ", ".join(known)


def _did_you_mean(guesses: Sequence[str]) -> str:
    return f"; did you mean {guesses[0]}?" if guesses else ""


def _shown(value: object) -> str:
    text = _CREDENTIALS.sub("://***@", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


@cache
def _properties(model: type[BaseModel], section: str) -> dict[str, dict[str, Any]]:
    schema = model.model_json_schema()
    reference = schema["properties"][section]["$ref"].rsplit("/", 1)[-1]
    return schema["$defs"][reference]["properties"]


def _in_words(schema: dict[str, Any]) -> str:
    if "allowed" in schema:
        return schema["allowed"]
    if "anyOf" in schema:  # X | None: unset is not a value that can be written
        return _in_words(next(option for option in schema["anyOf"] if option.get("type") != "null"))
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    words = "a path" if schema.get("format") == "path" else _TYPES[schema["type"]]
    return words + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:g}, at most {high}" if high is not None else f" above {above:g}"
    if low is not None:
        return f" from {low} to {high}" if high is not None else f", at least {low}"
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None:
        return f" of {shortest or 0} to {longest} characters"
    return " that is not empty" if shortest else ""
