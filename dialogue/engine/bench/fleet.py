"""The processes of all arms: started when an arm's first run comes, warmed up, kept or ended in turn."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from dialogue.config import EngineConfig
from dialogue.engine.base import AdapterRef
from dialogue.engine.bench.arm_process import ArmProcess, arm_process
from dialogue.engine.bench.arm_table import ArmKind
from dialogue.engine.bench.samples import Sample
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.bench.workload import Conversation, adapter_name
from dialogue.engine.model_files import ModelFiles

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all arms."""

    engine: EngineConfig
    files: ModelFiles | None = None
    adapters: tuple[AdapterRef, ...] = ()
    url: str = ""
    url_model: str = ""  # "" = the first that the server names
    url_key: str = ""


def arm_settings(kind: ArmKind, terms: Terms, *, adapters: bool) -> ArmSettings:
    """Return what an arm's process is told."""
    options: dict[str, Any] = {name: terms.engine.slots if value == "slots" else value for name, value in kind.options.items()}
    if kind.needs == "url":
        options |= {"url": terms.url, "model": terms.url_model, "api_key": terms.url_key}
    refs = terms.adapters[: kind.adapters or None] if adapters else ()
    if kind.adapters:
        options["adapter"] = adapter_name(0)
    return ArmSettings(kind.builder, replace(terms.engine, remote=None, **kind.engine), terms.files, refs, options)


class Fleet:
    """Arms by name, and whether they have adapters."""

    def __init__(self, terms: Terms, warm_ups: Sequence[Conversation], tell: Tell, *, apart: bool) -> None:
        """`warm_ups` are held by an arm before anything else, the first one alone where requests do not run together.

        `apart`: one process at a time, for a device whose memory holds one model only.
        """
        self._terms = terms
        self._warm_ups = warm_ups
        self._tell = tell
        self._apart = apart
        self._open: dict[tuple[str, bool], tuple[AsyncExitStack, ArmProcess]] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.memory: dict[str, dict[str, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end_all()

    async def run(self, kind: ArmKind, conversations: Sequence[Conversation], *, adapters: bool) -> tuple[Sample, ...]:
        """Let an arm hold these conversations. Raises EngineUnavailable; such an arm's process is ended."""
        key = (kind.name, adapters)
        try:
            process = await self._process(kind, adapters=adapters)
            samples = await process.run(conversations)
        except BaseException:
            await self._end(key)
            raise
        peaks = self.memory.setdefault(kind.name, {})
        peaks |= {name: max(value, peaks.get(name, 0.0)) for name, value in process.memory.items()}
        return samples

    async def _process(self, kind: ArmKind, *, adapters: bool) -> ArmProcess:
        key = (kind.name, adapters)
        if key not in self._open:
            if self._apart:
                await self._end_all()
            self._tell(f"Starting {kind.name}{' with adapters' if adapters and not kind.adapters else ''} …")
            stack = AsyncExitStack()
            process = await stack.enter_async_context(arm_process(arm_settings(kind, self._terms, adapters=adapters)))
            self._open[key] = (stack, process)
            self.about[kind.name] = process.about | self.about.get(kind.name, {})
            together = self._warm_ups if kind.batches else self._warm_ups[:1]
            await process.run([replace(each, adapter=adapter_name(0) if adapters else None) for each in together])
        return self._open[key][1]

    async def _end(self, key: tuple[str, bool]) -> None:
        if key in self._open:
            await asyncio.shield(self._open.pop(key)[0].aclose())

    async def _end_all(self) -> None:
        for key in tuple(self._open):
            await self._end(key)
