"""Keeps the engine on the adapter that shall answer: the active release of the served base model, else the one that ships with Kefu.

    database ─► wanted ─► engine.set_adapters([wanted, those before]) ─► new turns choose it

Those before stay loaded, because turns that have chosen them are still on their way to the engine. What the engine refuses is
remembered with its reason; the one before goes on answering. An adapter that was damaged on the disk never keeps the engine from
starting, neither at first nor after a crash: it is let go, and the base model answers.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from dialogue.engine.base import AdapterRef, Engine
from dialogue.errors import AdapterRejected, EngineError
from storage.database import Database
from storage.records import ADAPTED_SKILLS, AdapterReleaseRecord

LOOK_S: Final = 5.0  # between two looks; who changes a release through this process is not kept waiting for one
LOADED: Final = 3  # adapters that an engine holds at most: the one that answers, and the two before

Check = Callable[[Path], object]  # raises AdapterRejected for a folder that cannot be served

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """An adapter that may answer."""

    ref: AdapterRef
    label: str  # its name for people
    skills: frozenset[str]  # the others are answered by the base model


@dataclass(frozen=True, slots=True)
class Serving:
    """What one process answers with."""

    adapter: str = ""  # id of the release, or the name of the adapter that ships with Kefu; "" = the base model
    name: str = ""
    refused: str = ""  # what should answer but does not
    reason: str = ""  # why; a sentence

    def as_json(self) -> dict[str, Any]:
        """Return it for other processes."""
        return asdict(self)


class AdapterWatch:
    """Looks what should answer, and lets it. `current` is the port AdapterChoice of the dialogue."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        base_sha256: str,
        *,
        check: Check,
        shipped: AdapterRef | None = None,
        enabled: bool = True,
    ) -> None:
        """Watch for `base_sha256` ("" = not known: any release fits). `shipped` answers while no release is active."""
        self._check = check
        self._was_ready = False  # the engine has started once
        self._database = database
        self._engine = engine
        self._base_sha256 = base_sha256 or None
        self._shipped = None if shipped is None else Choice(shipped, shipped.name, frozenset(ADAPTED_SKILLS))
        self._enabled = enabled
        self._current: Choice | None = None
        self._refused: Choice | None = None
        self._reason = ""
        self._loaded: tuple[AdapterRef, ...] = ()
        self._looking = asyncio.Lock()

    def current(self, conversation_id: str, skill: str) -> str | None:  # noqa: ARG002 - the shape of the port AdapterChoice
        """Return the adapter that new turns of this skill use; None = base model."""
        return self._current.ref.name if self._current is not None and skill in self._current.skills else None

    @property
    def serving(self) -> Serving:
        """What answers now."""
        current, refused = self._current, self._refused
        return Serving(
            adapter=current.ref.name if current else "",
            name=current.label if current else "",
            refused=refused.ref.name if refused else "",
            reason=self._reason if refused else "",
        )

    async def look(self, *, again: bool = False) -> None:
        """Let the wanted adapter answer if it is another one than before; `again` also tries what was refused. Raises StorageError."""
        async with self._looking:
            await self._heal()
            wanted = await self._wanted()
            if wanted == self._current:
                self._refused = None
            elif again or wanted is None or wanted != self._refused:
                await self._change(wanted)

    async def let_go(self, failure: EngineError) -> bool:
        """Let the base model answer if the engine did not start because of an adapter; return whether that was it."""
        reason = failure.__cause__
        if not isinstance(reason, AdapterRejected):
            return False
        async with self._looking:
            await self._keep([], str(reason))
        return True

    async def _heal(self) -> None:
        """Let adapters go that were damaged on the disk while an engine that is down needs them to come back."""
        if self._engine.health().ready:
            self._was_ready = True
        elif self._was_ready:
            reasons = {ref: reason for ref in self._loaded if (reason := await asyncio.to_thread(self._reason_against, ref))}
            if reasons:
                await self._keep([ref for ref in self._loaded if ref not in reasons], next(iter(reasons.values())))

    def _reason_against(self, ref: AdapterRef) -> str:
        try:
            self._check(Path(ref.path))
        except AdapterRejected as error:
            return str(error)
        return ""

    async def _keep(self, refs: Sequence[AdapterRef], reason: str) -> None:
        """Keep only these of what is loaded; what answered and is not among them is refused for this reason."""
        try:
            await self._load_exactly(refs)
        except (AdapterRejected, EngineError) as error:
            log.warning("adapter.postponed", kept=refs, reason=str(error))
            return
        if self._current is not None and self._current.ref not in refs:
            log.warning("adapter.rejected", wanted=self._current, serving=None, reason=reason)
            self._refused, self._reason, self._current = self._current, reason, None

    async def _wanted(self) -> Choice | None:
        if not self._enabled:
            return None
        release = await self._database.read(lambda unit: unit.adapters.active(self._base_sha256))
        return self._shipped if release is None else _choice(release)

    async def _change(self, wanted: Choice | None) -> None:
        try:
            if wanted is not None:
                await self._load(wanted.ref)
        except AdapterRejected as error:
            self._refused, self._reason = wanted, str(error)
            log.warning("adapter.rejected", wanted=wanted, serving=self._current, reason=str(error))
        except EngineError as error:  # it is not there at the moment: the next look tries again
            log.warning("adapter.postponed", wanted=wanted, serving=self._current, reason=str(error))
        else:
            log.info("adapter.changed", now=wanted, before=self._current)
            self._current, self._refused = wanted, None

    async def _load(self, ref: AdapterRef) -> None:
        """Let the engine have this adapter, in front of those that it has."""
        refs = [ref, *(other for other in self._loaded if other != ref)][:LOADED]
        try:
            await self._load_exactly(refs)
        except AdapterRejected:
            if len(refs) == 1:
                raise
            await self._load_exactly(refs[:1])  # an old one whose folder was damaged meanwhile must not keep the new one out

    async def _load_exactly(self, refs: Sequence[AdapterRef]) -> None:
        wanted = tuple(refs)
        if wanted != self._loaded:
            await self._engine.set_adapters(wanted)
            self._loaded = wanted


def _choice(release: AdapterReleaseRecord) -> Choice:
    return Choice(AdapterRef(release.id, release.path), release.name, frozenset(release.skills))
