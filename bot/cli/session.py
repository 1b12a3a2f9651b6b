"""What one call of `kefu` knows before its command runs: the global options."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(slots=True)
class Session:
    """The global options of this call. Filled in by `main.options` and `prepare`, read when something fails."""

    config: Path | None = None
    log_level: LogLevel | None = None
    log_json: bool = False
    debug: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)  # known once settings are loaded; kept out of every message
