"""BreakerEngine: after several failures in a row, says "unavailable" at once instead of letting everybody wait for it.

closed ──5 incidents in a row──► open ──cool-down──► half-open ──text──► closed
                                  ▲                      │
                                  └──────failure─────────┘
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from dialogue.engine.base import (
    AdapterRef,
    Engine,
    EngineHealth,
    EngineInfo,
    GenerationEvent,
    GenerationFinished,
    GenerationRequest,
    TextDelta,
)
from dialogue.errors import EngineUnavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When to stop asking, and when to try again."""

    failures: int = 5  # incidents in a row
    cool_down_s: float = 10.0  # from opening until one request may try


@dataclass(frozen=True, slots=True)
class Pass:
    """A request's permission."""

    entered: float  # seconds on the clock of the caller
    is_probe: bool  # it is the one that may try a half-open circuit


class Circuit:
    """The state of a circuit breaker. Pure: it is told the time."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._failures = 0  # incidents in a row
        self._failed_at = float("-inf")  # the latest incident
        self._probing = False  # a probe is under way

    @property
    def is_closed(self) -> bool:
        """Whether everybody is let through."""
        return self._failures < self._limits.failures

    def retry_after_s(self, now: float) -> float:
        """Return how long an open circuit stays so; 0 when a request may try."""
        return 0.0 if self.is_closed else max(0.0, self._failed_at + self._limits.cool_down_s - now)

    def enter(self, now: float) -> Pass | None:
        """Let a request pass or not. While a half-open circuit has its one probe out, no other passes."""
        if self.is_closed:
            return Pass(now, is_probe=False)
        if self._probing or self.retry_after_s(now):
            return None
        self._probing = True
        return Pass(now, is_probe=True)

    def answered(self) -> None:
        """The engine made text. That closes a half-open circuit, but the next failure opens it again."""
        self._failures = min(self._failures, self._limits.failures - 1)

    def finished(self) -> None:
        """A request came to its end: all is well."""
        self._failures = 0

    def failed(self, given: Pass, now: float) -> None:
        """A request failed. All requests that one incident took along count once."""
        if given.entered >= self._failed_at:
            self._failures += 1
            self._failed_at = now

    def leave(self, given: Pass) -> None:
        """A request is over, however it ended."""
        if given.is_probe:
            self._probing = False


class BreakerEngine:
    """Implements `Engine` around an engine that may be broken for a while."""

    def __init__(self, inner: Engine, limits: BreakerLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._circuit = Circuit(limits or BreakerLimits())
        self._clock = clock

    async def start(self) -> EngineInfo:
        """Start the inner engine. Raises EngineUnavailable."""
        return await self._inner.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Stream from the inner engine. Raises EngineUnavailable at once while the circuit is open."""
        given = self._circuit.enter(self._clock())
        if given is None:
            raise EngineUnavailable(self._why_open())
        finished = None
        try:
            async with aclosing(self._inner.generate(request)) as events:
                async for event in events:
                    if isinstance(event, GenerationFinished):
                        self._circuit.finished()
                        finished = event
                        break
                    if isinstance(event, TextDelta):
                        self._circuit.answered()
                    yield event
        except EngineUnavailable:
            self._circuit.failed(given, self._clock())
            if not self._circuit.is_closed:
                log.warning("engine_circuit_open", reason=self._why_open())
            raise
        finally:
            self._circuit.leave(given)
        if finished is not None:
            yield finished  # when everything is given back: the consumer may never come back

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        """As the inner engine does."""
        await self._inner.set_adapters(adapters)

    def health(self) -> EngineHealth:
        inner = self._inner.health()
        if self._circuit.is_closed:
            return inner
        return replace(inner, ready=False, detail=inner.detail or self._why_open())

    async def close(self) -> None:
        """Close the inner engine. Idempotent."""
        await self._inner.close()

    def _why_open(self) -> str:
        return f"the engine failed several times in a row; it is tried again in {self._circuit.retry_after_s(self._clock()):.0f} s"
