"""Who sits at this terminal, and what is kept about their typing outside the database."""

import os
import pwd
from pathlib import Path

from bot.settings import Settings


def current_user() -> str:
    """Return the name of who runs this process; its number where it has no name, as in many containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def typed_lines(settings: Settings) -> Path:
    """Return the file with the lines that were typed into `kefu chat`, for the arrow keys."""
    return settings.data_dir / "chat_history"
