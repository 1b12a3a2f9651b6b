"""What lies in the folder of an adapter, and how it is copied to where releases are kept. Light: checking it is `adapters`."""

import os
import shutil
import stat
from pathlib import Path
from typing import Final

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
CARD_FILE: Final = "README.md"  # PEFT writes one beside every adapter; nothing reads it but people
MAX_CARD_BYTES: Final = 1 << 20


def copy_adapter(source: Path, target: Path) -> None:
    """Copy an adapter, with its card where that is small, to a new folder; durable afterwards. Raises OSError.

    What counts is the copy, which the caller checks.
    """
    target.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        _copy(source / name, target / name)
    if _is_small(source / CARD_FILE):
        _copy(source / CARD_FILE, target / CARD_FILE)


def _copy(source: Path, target: Path) -> None:
    """Copy a plain file, and no link or pipe that was put in its place meanwhile."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file, target.open("xb") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _is_small(card: Path) -> bool:
    try:
        status = card.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_CARD_BYTES
