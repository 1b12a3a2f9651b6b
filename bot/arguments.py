"""Arguments of operations on the control socket, read without trust: they come from another process."""

from collections.abc import Mapping
from typing import Any

from bot.errors import CliError, ExitCode

Arguments = Mapping[str, Any]
MAX_ROWS = 1000


def text(arguments: Arguments, name: str) -> str:
    """Return an argument that must be text. Raises CliError."""
    value = arguments.get(name)
    if not isinstance(value, str):
        raise CliError(f"{name} must be text.", code=ExitCode.USAGE)
    return value


def optional(arguments: Arguments, name: str) -> str | None:
    """Return an argument that may be missing. Raises CliError."""
    return text(arguments, name) if arguments.get(name) is not None else None


def number(arguments: Arguments, name: str, default: int) -> int:
    """Return a count of rows. Raises CliError."""
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ROWS:
        raise CliError(f"{name} must be a whole number from 1 to {MAX_ROWS}.", code=ExitCode.USAGE)
    return value
