"""What several tests of the bench need: samples by hand, a language of bytes, arms without a model."""

from collections.abc import Sequence
from typing import Any

from dialogue.engine.bench.samples import Answer, Ask, Ids, Sample
from dialogue.engine.bench.workload import Language


def sample(ttft_ms: float, total_ms: float, tokens: int = 11, **changes: Any) -> Sample:
    """One answer whose text came at its beginning and at its end."""
    plain: dict[str, Any] = {"conversation": "a", "kind": "chat", "turn": 1, "asked_ms": 0.0, "prompt_tokens": 30, "cached_tokens": 20}
    plain |= {"arrivals_ms": (ttft_ms, total_ms), "total_ms": total_ms, "tokens": tokens, "text": "text"}
    return Sample(**plain | changes)


def render(texts: Sequence[str]) -> Ids:
    """A chat as bytes: each message, and a sign after it."""
    return tuple("".join(f"{text}|" for text in texts).encode())


BYTES = Language(lambda text: tuple(text.encode()), render)


class Parrot:
    """An arm that remembers what it was asked, and answers "fine" by a clock of its own."""

    def __init__(self, clock: "Clock", tokens: int | None = None) -> None:
        """`tokens` are those of an answer; None = as many as were asked for."""
        self.asked: list[Ask] = []
        self._tokens = tokens
        self._clock = clock

    async def start(self) -> dict[str, Any]:
        return {}

    async def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        began = self._clock.now
        self._clock.now += 2.0
        return Answer((began + 0.5, began + 2.0), began + 2.0, self._tokens or ask.reply_tokens, "fine", 3)

    async def close(self) -> None:
        """There is nothing to end."""


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
