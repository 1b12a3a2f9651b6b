"""What one call of `kefu` knows before its command runs: the global options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dialogue.config import ProgramConfig


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(slots=True)
class Session:
    """The global options of this call. Filled in by `main.options` and `prepare`, read when something fails.

    A mounted program finds it as `ctx.obj` and takes `program_config` from it, nothing else.
    """

    config: Path | None = None
    log_level: LogLevel | None = None
    log_json: bool = False
    debug: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)  # known once settings are loaded; kept out of every message
    program_config: Callable[[], ProgramConfig] | None = None  # loads the settings; raises SettingsError
