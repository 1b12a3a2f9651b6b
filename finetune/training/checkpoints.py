"""Checkpoints that a run can go on from.

The Trainer writes its state last, so a folder without a readable one was cut off by a crash or a full disk.
"""

import json
import shutil
from pathlib import Path

STATE_NAME = "trainer_state.json"


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint in `folder` that was written to its end, None where there is none."""
    return max((path for path in _checkpoints(folder) if step_of(path) is not None), key=_number, default=None)


def remove_broken(folder: Path) -> None:
    """Delete the checkpoints that were cut off."""
    for path in _checkpoints(folder):
        if step_of(path) is None:
            shutil.rmtree(path)


def step_of(checkpoint: Path) -> int | None:
    """Return the optimiser step at which a checkpoint was written; None for one that is not whole."""
    try:
        return int(json.loads((checkpoint / STATE_NAME).read_bytes())["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
