"""How big a proof runs: small in the default suite, as the issues name it under `make proof`."""

import json
import os
from pathlib import Path


def size(name: str, *, small: int, proof: int) -> int:
    """Return how often the proof `name` repeats: KEFU_SIZE_<NAME> if set, `proof` under KEFU_PROOF=1, else `small`."""
    explicit = os.environ.get(f"KEFU_SIZE_{name.upper()}")
    if explicit is not None:
        return int(explicit)
    return proof if os.environ.get("KEFU_PROOF") == "1" else small


def record_proof(name: str, *, seed: int | str, size: int, result: str) -> None:
    """Append one line of evidence to the file that KEFU_PROOF_LOG names; without it, do nothing."""
    target = os.environ.get("KEFU_PROOF_LOG")
    if target:
        with Path(target).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"name": name, "seed": seed, "size": size, "result": result}) + "\n")
