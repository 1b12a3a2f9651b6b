"""One arm in a process of its own: `python -m dialogue.engine.bench.child PARENT_PID`.

Of its own, so that its memory, its threads and what its libraries patch are its own. One JSON object with the settings comes on
stdin, then one line of conversations for each run; one JSON line goes back for each. At the end of stdin it ends.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from dialogue.engine.bench.drive import hold
from dialogue.engine.bench.machine import peak_memory_mib
from dialogue.engine.bench.samples import Arm
from dialogue.engine.bench.settings import CONVERSATIONS, SAMPLES, SETTINGS, ArmSettings, load_codec
from dialogue.engine.child import bind_to_parent, shorten_waits

# Imported in the child alone: native libraries belong there.
BUILDERS: Mapping[str, str] = {
    "engine": "dialogue.engine.bench.engine_arm:build",
    "ablation": "dialogue.engine.bench.ablation_arm:build",
    "raw": "dialogue.engine.bench.raw_arm:build",
    "url": "dialogue.engine.bench.url_arm:build",
    "generate": "dialogue.engine.bench.generate_arm:build",
    "continuous": "dialogue.engine.bench.continuous_arm:build",
}


def build_arm(settings: ArmSettings) -> Arm:
    """Return the arm, not yet started."""
    module, _, name = BUILDERS[settings.builder].partition(":")
    builder: Callable[[ArmSettings], Arm] = getattr(importlib.import_module(module), name)
    return builder(settings)


async def serve(lines: TextIO, answers: TextIO) -> None:
    """Be the arm that the first line describes, until the lines end."""
    settings = SETTINGS.validate_json(await asyncio.to_thread(lines.readline))
    arm: Arm | None = None
    try:
        arm = build_arm(settings)
        _write(answers, {"about": await arm.start()})
        encode = load_codec(settings.files).encode
        while line := await asyncio.to_thread(lines.readline):
            samples = await hold(arm, CONVERSATIONS.validate_json(line), encode)
            _write(answers, {"samples": SAMPLES.dump_python(tuple(samples)), "memory": memory()})
    except Exception as error:  # noqa: BLE001 - whatever ends an arm is told to the bench, which goes on without it
        _write(answers, {"failed": _sentence(error)})
    finally:
        if arm is not None:
            with suppress(Exception):
                await arm.close()


def memory() -> dict[str, float]:
    """Return the peaks of this process with its children, and of what torch allocated in it on a device, in MiB."""
    peaks = {"peak_memory_mib": peak_memory_mib(os.getpid())}
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peaks["peak_device_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def _write(answers: TextIO, value: Mapping[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _sentence(error: BaseException) -> str:
    """Return the first line of an error; of a group, that of the first one in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:500]


def main() -> None:
    """Run the child. Does not return: a library's threads must not keep a finished arm alive."""
    bind_to_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes where nobody reads JSON
    shorten_waits()  # as in the engine's own child process, so that no arm is better off on a busy machine
    asyncio.run(serve(sys.stdin, answers))
    os._exit(0)


if __name__ == "__main__":
    main()
