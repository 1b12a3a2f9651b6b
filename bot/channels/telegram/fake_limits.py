"""The limits that end in 429: about a message a second per chat, 20 a minute per group, 30 a second overall; edits count.

Telegram publishes these numbers as rough and does not document the rest. Who calls again inside the `retry_after` of an answer is written
down in `violations`, and waits longer.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

_INFINITE = math.inf


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a bot may send. A burst is how many calls pass at once after a pause."""

    chat_per_s: float = 1.0
    chat_burst: int = 3
    group_per_minute: float = 20
    overall_per_s: float = 30
    overall_burst: int = 30
    drafts_per_s: float = _INFINITE  # per chat; Telegram says nothing of drafts
    grace_s: float = 0.25  # calls that were under way when a 429 was sent are refused, but are no violation
    penalty_s: float = 1.0  # by how much a violation extends the window

    @classmethod
    def none(cls) -> "Limits":
        """No limits at all."""
        return cls(chat_per_s=_INFINITE, group_per_minute=_INFINITE, overall_per_s=_INFINITE)


@dataclass(frozen=True, slots=True)
class Violation:
    """A call inside the `retry_after` that the bot was told before."""

    at: float
    method: str
    chat: int
    too_early_s: float


@dataclass(slots=True)
class _Bucket:
    """So many tokens at most, so many new ones a second."""

    rate: float
    size: float
    tokens: float
    at: float

    def wait_s(self, now: float) -> float:
        """Seconds until a call may pass; 0 is now."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.rate


@dataclass(slots=True)
class _Window:
    until: float
    told_at: float


@dataclass(slots=True)
class Limiter:
    """Decides for each call whether it passes. Give it the time."""

    limits: Limits
    violations: list[Violation] = field(default_factory=list)
    _buckets: dict[Hashable, _Bucket] = field(default_factory=dict)
    _groups: dict[int, deque[float]] = field(default_factory=dict)
    _windows: dict[Hashable, _Window] = field(default_factory=dict)

    def retry_after(self, method: str, chat: int, now: float, *, is_draft: bool = False) -> int:
        """Return 0 if the call passes, or the seconds that the bot has to wait."""
        for window in (self._windows.get(_key(chat, is_draft=is_draft)), self._windows.get("overall")):
            if window is not None and now < window.until:
                return self._refuse_again(window, method, chat, now)
        wait_s, scope = self._wait(chat, now, is_draft=is_draft)
        if wait_s <= 0:
            self._spend(chat, now, is_draft=is_draft)
            return 0
        return self._open(scope, wait_s, now)

    def punish(self, chat: int, seconds: float, now: float, *, is_draft: bool = False) -> int:
        """Open a window that no limit asked for; return its length as the bot is told it."""
        return self._open(_key(chat, is_draft=is_draft), seconds, now)

    def _open(self, scope: Hashable, seconds: float, now: float) -> int:
        told = max(1, math.ceil(seconds))
        self._windows[scope] = _Window(now + told, now)
        return told

    def _refuse_again(self, window: _Window, method: str, chat: int, now: float) -> int:
        if now > window.told_at + self.limits.grace_s:
            self.violations.append(Violation(now, method, chat, window.until - now))
            window.until += self.limits.penalty_s
        return max(1, math.ceil(window.until - now))

    def _wait(self, chat: int, now: float, *, is_draft: bool) -> tuple[float, Hashable]:
        key = _key(chat, is_draft=is_draft)
        if is_draft:
            return self._bucket(key, self.limits.drafts_per_s, self.limits.chat_burst, now).wait_s(now), key
        overall_s = self._bucket("overall", self.limits.overall_per_s, self.limits.overall_burst, now).wait_s(now)
        if overall_s > 0:
            return overall_s, "overall"
        chat_s = self._bucket(key, self.limits.chat_per_s, self.limits.chat_burst, now).wait_s(now)
        return max(chat_s, self._group_wait(chat, now)), key

    def _group_wait(self, chat: int, now: float) -> float:
        if chat >= 0 or self.limits.group_per_minute == _INFINITE:
            return 0.0
        recent = self._groups.setdefault(chat, deque())
        while recent and recent[0] <= now - 60:
            recent.popleft()
        return 0.0 if len(recent) < self.limits.group_per_minute else recent[0] + 60 - now

    def _spend(self, chat: int, now: float, *, is_draft: bool) -> None:
        self._buckets[_key(chat, is_draft=is_draft)].tokens -= 1
        if is_draft:
            return
        self._buckets["overall"].tokens -= 1
        if chat < 0:
            self._groups.setdefault(chat, deque()).append(now)

    def _bucket(self, key: Hashable, rate: float, burst: float, now: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate, burst, burst, now)
        return bucket


def _key(chat: int, *, is_draft: bool) -> Hashable:
    return ("draft", chat) if is_draft else chat
