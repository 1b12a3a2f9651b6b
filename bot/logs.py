"""What the program says about itself: structlog over the standard library, on stderr, readable or as JSON.

Every record has a fixed event name, dotted snake_case (`turn.committed`); what varies stands in its fields. Records of
libraries are called `library.message`. Before anything is written: fields that hold what people wrote are blanked at info
and above, secrets are taken out, control characters are escaped.
"""

import logging
import sys
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.redaction import HIDDEN, Redactor
from dialogue.normalise import escape_control

MESSAGE_FIELDS = frozenset(
    {
        "text",
        "user_text",
        "reply_text",
        "message_text",
        "prompt",
        "content",
        "reply",
        "question",
        "answer",
        "raw",
        "note",
        "notes",
        "summary",
    }
)
SECRET_FIELDS = frozenset({"token", "password", "authorization", "api_key", "secret", "cookie"})

_OUR_ROOMS = frozenset({"bot", "dialogue", "finetune", "storage"})
# These tell of every request, statement or row (parameters, and so message texts, included): warnings only, whatever the level.
_QUIET = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "sqlalchemy",
    "alembic",
    "aiosqlite",
    "uvicorn",
    "asyncio",
    "telegram",
    "pydantic_settings",
    "psycopg",
)
_MAX_DEPTH = 6


class _CurrentStderr:
    """Whatever sys.stderr is now: the terminal channel replaces it while a prompt is open."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Handler(logging.StreamHandler[Any]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 the name is the library's
        """Drop the record: stderr itself is broken, so there is nobody left to tell."""


def configure_logging(level: str, *, as_json: bool = False, colors: bool = False, secrets: Sequence[str] = ()) -> None:
    """Set up the logs of this process. `level` is debug, info, warning or error. May be called again."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Handler(_CurrentStderr())
    handler.setFormatter(_formatter(Redactor(secrets), as_json=as_json, colors=colors))
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _formatter(redactor: Redactor, *, as_json: bool, colors: bool) -> structlog.stdlib.ProcessorFormatter:
    renderer: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=colors)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), _name_foreign],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide_message_text, _Cleaner(redactor), renderer],
    )


def _name_foreign(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give a record of a library the event name that all of them have; what it says becomes a field."""
    if str(event.get("logger", "")).split(".", 1)[0] not in _OUR_ROOMS:
        event["message"] = event["event"]
        event["event"] = "library.message"
    return event


def hide_message_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank the fields that hold what people wrote, unless the record is at debug: the second fence behind the rule."""
    if event.get("level") != "debug":
        for name in MESSAGE_FIELDS & event.keys():
            event[name] = f"<{len(str(event[name]))} characters>"
    return event


class _Cleaner:
    """Takes secrets and control characters out of every value, however deep it stands."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._name = lru_cache(maxsize=512)(self._text)  # the names of fields are few

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return self._fields(event, 0)

    def _fields(self, fields: Mapping[Any, Any], depth: int) -> MutableMapping[str, Any]:
        return {self._name(str(name)): self._field(str(name), value, depth) for name, value in fields.items()}

    def _field(self, name: str, value: object, depth: int) -> object:
        if name.lower() in SECRET_FIELDS:
            return HIDDEN
        keep = "\n\t" if name in {"exception", "stack"} else ""
        return self._value(value, depth, keep)

    def _value(self, value: object, depth: int, keep: str = "") -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping) and depth < _MAX_DEPTH:
            return self._fields(value, depth + 1)
        if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray) and depth < _MAX_DEPTH:
            return [self._value(item, depth + 1) for item in value]
        return self._text(str(value), keep)

    def _text(self, text: str, keep: str = "") -> str:
        if text.isalnum():  # an id, a word: most values
            return self._redactor.known(text)
        return escape_control(self._redactor(text), keep=keep)
