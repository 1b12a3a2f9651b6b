"""`metrics.jsonl`: one line for each step and each look at the held-out loss.

{"step": 3, "loss": 2.41, "learning_rate": 0.001, "grad_norm": 0.8, "trained_tokens": 9210, "seconds": 41.2}
{"step": 20, "held_out_loss": 2.2}
"""

import json
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.jsonl"


def append(run: Path, values: dict[str, Any]) -> None:
    """Add one line."""
    with (run / METRICS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read(run: Path) -> list[dict[str, Any]]:
    """Return every whole line of a run's metrics, none for a run without."""
    path = run / METRICS_NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [value for value in map(_parsed, lines) if value is not None]


def cut_after(run: Path, step: int) -> None:
    """Forget what was measured after `step`: a run that goes on from there measures it again."""
    kept = [json.dumps(values) + "\n" for values in read(run) if values["step"] <= step]
    part = run / f"{METRICS_NAME}.part"
    part.write_text("".join(kept), encoding="utf-8")
    part.replace(run / METRICS_NAME)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:  # the last line of a run that was killed
        return None
    return value if isinstance(value, dict) and "step" in value else None
