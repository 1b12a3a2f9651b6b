"""The first step of every command: settings, then logs."""

from collections.abc import Mapping

import typer
from rich.console import Console

from bot.cli.session import Session
from bot.logs import configure_logging
from bot.settings import LoadedSettings, Settings, debug_requested, load


def prepare(ctx: typer.Context, flags: Mapping[str, object] | None = None, *, level: str = "warning") -> Settings:
    """Load the settings and set up the logs; `flags` ("section.key" → value; None = not given) are the command's own options.

    `level` is what [logging] level = "auto" means for this command. Raises SettingsError.
    """
    return prepare_loaded(ctx, flags, level=level).settings


def prepare_loaded(ctx: typer.Context, flags: Mapping[str, object] | None = None, *, level: str = "warning") -> LoadedSettings:
    """Like `prepare`, and tell which files and variables were read."""
    session = ctx.ensure_object(Session)
    session.debug = session.debug or debug_requested()
    loaded = load(_given({**_logging_flags(session), **(flags or {})}), config=session.config)
    session.secrets = loaded.settings.secrets()
    _start_logs(loaded.settings, level)
    return loaded


def _logging_flags(session: Session) -> dict[str, object]:
    chosen = session.log_level or ("debug" if session.debug else None)
    return {"logging.level": chosen and str(chosen), "logging.format": "json" if session.log_json else None}


def _given(flags: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None}


def _start_logs(settings: Settings, level: str) -> None:
    stderr = Console(stderr=True)  # rich knows terminals, NO_COLOR and FORCE_COLOR
    configure_logging(
        level if settings.logging.level == "auto" else settings.logging.level,
        as_json=settings.logging.format == "json",
        colors=stderr.is_terminal and not stderr.no_color,
        secrets=settings.secrets(),
    )
