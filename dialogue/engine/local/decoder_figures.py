"""What a decoder counts while it works, for /metrics. Pure; the time is handed in."""

from collections import deque
from typing import Final

from dialogue.engine.local.scheduler import Scheduler

WINDOW_S: Final = 10.0  # over which the speed is taken


class DecoderFigures:
    """Written by the worker's thread; a snapshot may be taken in any."""

    def __init__(self, bytes_per_token: int) -> None:
        self._bytes_per_token = bytes_per_token
        self._made: deque[tuple[float, int]] = deque()  # when, and how many tokens
        self._batch = 0
        self._prompt_tokens = self._cached_tokens = self._shortages = 0

    def note_beginning(self, prompt_tokens: int, cached_tokens: int) -> None:
        """A request got its slot."""
        self._prompt_tokens += prompt_tokens
        self._cached_tokens += cached_tokens

    def note_step(self, requests: int, made: int, now: float) -> None:
        """A step of so many requests was computed and has made so many tokens."""
        self._batch = requests
        self._made.append((now, made))
        while self._made[0][0] < now - WINDOW_S:
            self._made.popleft()

    def note_shortage(self) -> None:
        """Memory ran out in a step."""
        self._shortages += 1

    def snapshot(self, scheduler: Scheduler, now: float) -> dict[str, float]:
        """Return the figures by name."""
        made = sum(count for at, count in tuple(self._made) if at >= now - WINDOW_S)
        held = sum(len(slot.tokens) for slot in scheduler.table.slots)
        return {
            "batch": self._batch if scheduler.running else 0,
            "tokens_per_second": made / WINDOW_S,
            "cache_hit_rate": self._cached_tokens / max(1, self._prompt_tokens),
            "kv_bytes": held * self._bytes_per_token,
            "step_tokens_allowed": scheduler.bounds.tokens,
            "memory_shortages": self._shortages,
        }
