"""The queue of updates: numbers, offsets, kinds that a bot asked for, and how long an update is kept."""

import json
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MESSAGE_LIFETIME_S = 86_400.0
CALLBACK_LIFETIME_S = 150.0
NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count", "stopped_message_generation"})
_OTHER_QUEUE = 1 << 33  # webhook queues of other kinds than messages lie so far apart
_QUEUE_OF_KIND = {"inline_query": 1, "callback_query": 3, "my_chat_member": 5, "chat_member": 6, "message_reaction": 8}


@dataclass(frozen=True, slots=True)
class Update:
    """One update; `raw` is its JSON. The updates of a webhook queue are sent one after the other."""

    update_id: int
    kind: str
    raw: bytes
    queue: int
    expires_at: float


class UpdateQueue:
    """Waiting updates, oldest first."""

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        self._next_id = random.Random(seed).randrange(100_000_000, 900_000_000)  # noqa: S311 - not for secrets
        self._clock = clock
        self._updates: deque[Update] = deque()
        self._allowed: frozenset[str] | None = None
        self._next_expiry = math.inf
        self.on_forget: Callable[[int], None] = lambda _update_id: None  # an update was acknowledged

    @property
    def next_id(self) -> int:
        """The update_id of the next update."""
        return self._next_id

    def __len__(self) -> int:
        self._expire()
        return len(self._updates)

    def allow(self, kinds: Sequence[str]) -> None:
        """From now on queue these kinds only; none given is the default. What already waits stays."""
        self._allowed = frozenset(kinds) or None

    def allowed(self) -> list[str] | None:
        """Return the kinds that were asked for; None is the default."""
        return sorted(self._allowed) if self._allowed else None

    def push(self, kind: str, body: dict[str, Any], *, owner: int, lifetime_s: float = MESSAGE_LIFETIME_S) -> Update | None:
        """Queue an update and return it, or None if the bot did not ask for this kind. `owner` is the chat or user whose order counts."""
        if not self._is_allowed(kind):
            return None
        return self._append(kind, json.dumps({kind: body})[1:-1].encode(), owner, lifetime_s)

    def push_raw(self, members: bytes, *, owner: int = 0) -> Update:
        """Queue an update whose members, whatever these bytes are, stand behind its update_id."""
        return self._append("raw", members, owner, MESSAGE_LIFETIME_S)

    def from_offset(self, offset: int, limit: int) -> list[Update]:
        """Return the oldest updates from `offset` and forget those before it. A negative offset keeps only so many of the newest."""
        self._expire()
        if offset < 0:
            while len(self._updates) > -offset:
                self._updates.popleft()
        while offset > 0 and self._updates and self._updates[0].update_id < offset:
            self.on_forget(self._updates.popleft().update_id)
        return [update for update, _ in zip(self._updates, range(limit), strict=False)]

    def first_unsent(self, sending: set[int]) -> Update | None:
        """Return the oldest update whose webhook queue is not at work."""
        self._expire()
        return next((update for update in self._updates if update.queue not in sending), None)

    def forget(self, update: Update) -> None:
        """Remove one update; nothing happens if it is gone."""
        self.on_forget(update.update_id)
        if self._updates and self._updates[0] is update:
            self._updates.popleft()
        elif update in self._updates:
            self._updates.remove(update)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._updates.clear()

    def _is_allowed(self, kind: str) -> bool:
        return kind in self._allowed if self._allowed is not None else kind not in NOT_BY_DEFAULT

    def _append(self, kind: str, members: bytes, owner: int, lifetime_s: float) -> Update:
        queue = owner + _QUEUE_OF_KIND.get(kind, 0) * _OTHER_QUEUE
        raw = b'{"update_id":%d,%b}' % (self._next_id, members)
        update = Update(self._next_id, kind, raw, queue, self._clock() + lifetime_s)
        self._next_id += 1
        self._updates.append(update)
        self._next_expiry = min(self._next_expiry, update.expires_at)
        return update

    def _expire(self) -> None:
        now = self._clock()
        if now >= self._next_expiry:
            self._updates = deque(update for update in self._updates if update.expires_at > now)
            self._next_expiry = min((update.expires_at for update in self._updates), default=math.inf)
