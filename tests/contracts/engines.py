"""Every engine that must keep the contract. Add yours to ENGINES: the suite runs over all of them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialogue.engine.base import AdapterRef, Engine
from dialogue.engine.process import ProcessEngine
from dialogue.engine.scripted import ScriptedEngine
from dialogue.engine.spec import EngineSpec


@dataclass(frozen=True)
class Subject:
    """A started engine and what the suite must know about it."""

    engine: Engine
    encode: Callable[[str], tuple[int, ...]]  # a user's text as a whole prompt, template structure included
    multibyte_prompt: tuple[int, ...]  # its greedy answer holds characters of several bytes
    adapter: AdapterRef | None = None  # one that loads; None = this engine cannot show adapters here


@dataclass(frozen=True)
class Arm:
    """One engine of the suite. `open` starts it and closes it again; it may call pytest.skip()."""

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Subject]]


@asynccontextmanager
async def running(engine: Engine) -> AsyncGenerator[Engine, None]:
    """Start an engine and close it in the end."""
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def encode_bytes(text: str) -> tuple[int, ...]:
    """The ids that ScriptedEngine reads as text."""
    return tuple(text.encode())


def scripted_arm(name: str, make: Callable[[dict[str, Any]], Engine]) -> Arm:
    """An arm around a ScriptedEngine that `make` builds from plain arguments."""

    @asynccontextmanager
    async def open_subject(folder: Path) -> AsyncGenerator[Subject, None]:
        adapter = folder / "adapter"
        adapter.mkdir()
        async with running(make({"slots": 3, "context_tokens": 2048, "token_delay_s": 0.001})) as engine:
            yield Subject(engine, encode_bytes, encode_bytes("你好，世界 🙂 naïve"), AdapterRef("release-1", str(adapter)))

    return Arm(name, open_subject)


ENGINES = [
    scripted_arm("scripted", lambda arguments: ScriptedEngine(**arguments)),
    scripted_arm("process(scripted)", lambda arguments: ProcessEngine(EngineSpec("scripted", arguments))),
    scripted_arm(
        "process(scripted, adapters at start)", lambda arguments: ProcessEngine(EngineSpec("scripted", arguments, adapters_at_start=True))
    ),
]
