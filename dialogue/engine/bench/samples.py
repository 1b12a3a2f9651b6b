"""What is asked of an arm and what is measured of its answer. Plain values: they cross from the arm's process as JSON."""

from dataclasses import dataclass
from typing import Any, Protocol

Ids = tuple[int, ...]

UNKNOWN = -1  # cached tokens, where an arm does not say


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: greedy, and exactly `reply_tokens` long whatever the model would like."""

    conversation: str  # equal from turn to turn
    turn: int  # from 1
    prompt: Ids
    reply_tokens: int
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What an arm saw of its answer. Times are those of `time.perf_counter`."""

    arrivals: tuple[float, ...]  # of text
    ended: float
    tokens: int
    text: str
    cached_tokens: int = UNKNOWN  # of the prompt, not computed again


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer, timed from the moment when it was asked for."""

    conversation: str
    kind: str  # chat | long
    turn: int
    asked_ms: float  # since the run began
    arrivals_ms: tuple[float, ...]
    total_ms: float
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    text: str

    @property
    def ttft_ms(self) -> float:
        """Time to first token: to the first text, or to the end where there was none."""
        return self.arrivals_ms[0] if self.arrivals_ms else self.total_ms

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first one; None for a single token."""
        return (self.total_ms - self.ttft_ms) / (self.tokens - 1) if self.tokens > 1 else None

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """Inter-token latencies: the times between two arrivals of text."""
        return tuple(later - earlier for earlier, later in zip(self.arrivals_ms, self.arrivals_ms[1:], strict=False))

    @property
    def ended_ms(self) -> float:
        """When the answer was complete, since the run began."""
        return self.asked_ms + self.total_ms


class Arm(Protocol):
    """Who answers. Lives in a process of its own."""

    async def start(self) -> dict[str, Any]:
        """Load the model and be ready; return what is worth knowing of the arm, as JSON values."""
        ...

    async def answer(self, ask: Ask) -> Answer:
        """Generate. Called for several requests at the same time."""
        ...

    async def close(self) -> None: ...
