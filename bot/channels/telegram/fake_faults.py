"""What goes wrong with a call: by script for the next calls of a method, else by chance with a seed.

A response that was lost, a call that takes effect late, and a call that never arrived look the same to a bot. That is the point.
"""

import random
from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

ANY_METHOD = "*"


class FaultKind(StrEnum):
    LOST = "lost"  # takes effect; the connection breaks before the response
    HANG = "hang"  # takes effect; no response, and the connection stays open
    LATE = "late"  # the connection breaks; takes effect `after_s` later, or when `settle` is called
    LATE_HANG = "late_hang"  # the same, and the connection stays open
    BROKEN = "broken"  # the connection breaks; no effect
    DOWN = "down"  # the same, and every connection is refused for `after_s`
    SLOW = "slow"  # takes effect; the response comes `after_s` later
    TRUNCATED = "truncated"  # takes effect; half of the response, then the connection breaks
    BUSY = "busy"  # 429, retry after `after_s`
    ERROR = "error"  # 5xx with a JSON body; no effect
    ERROR_HTML = "error_html"  # 5xx with the page of a proxy; no effect
    ENTITIES = "entities"  # 400 for formatting, if there is any; no effect
    NOT_MODIFIED = "not_modified"  # an edit takes effect and is answered as if it had before
    UNAUTHORIZED = "unauthorized"  # 401; no effect
    BLOCKED = "blocked"  # from now on the user blocks the bot
    MIGRATED = "migrated"  # from now on the group is a supergroup


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    after_s: float = 1.0  # of BUSY, SLOW, DOWN and LATE; LATE with 0 waits for `settle`
    status: int = 502  # of ERROR and ERROR_HTML


_EDITS = frozenset({"editmessagetext", "editmessagereplymarkup", "editmessagemedia", "editmessagecaption"})


class Faults:
    """`rates` gives each kind its share of the calls of `methods` (all but getUpdates and getMe, if not given).

    A BUSY that is drawn by kind asks for a pause within `busy_s`. `webhook_repeats`
    is the share of webhook deliveries whose 2xx gets lost, so that the update comes again.
    """

    def __init__(
        self,
        rates: Mapping[FaultKind | Fault, float] | None = None,
        *,
        methods: Collection[str] | None = None,
        seed: int = 0,
        busy_s: tuple[int, int] = (1, 1),
        webhook_repeats: float = 0.0,
    ) -> None:
        self.injected: list[tuple[str, Fault]] = []  # what went wrong so far
        self.webhook_repeats = webhook_repeats
        self._rates = list((rates or {}).items())
        self._busy_s = busy_s
        self._methods = None if methods is None else {method.lower() for method in methods}
        self._scripts: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._chance = random.Random(seed)  # noqa: S311 - not for secrets

    def script(self, method: str, *faults: Fault | FaultKind | None) -> None:
        """Let the next calls of a method (or of any, "*") end like this; None is a call that succeeds."""
        self._scripts[method.lower()].extend(Fault(fault) if isinstance(fault, FaultKind) else fault for fault in faults)

    def next(self, method: str) -> Fault | None:
        """Return what goes wrong with this call; `method` is in lower case."""
        fault = self._choose(method)
        if fault is not None:
            self.injected.append((method, fault))
        return fault

    def repeats_webhook(self) -> bool:
        """Whether the 2xx of this delivery gets lost."""
        return self.webhook_repeats > 0 and self._chance.random() < self.webhook_repeats

    def _choose(self, method: str) -> Fault | None:
        for name in (method, ANY_METHOD):
            script = self._scripts.get(name)
            if script:
                return script.popleft()
        if not self._rates or not self._is_exposed(method):
            return None
        return self._by_chance(method)

    def _is_exposed(self, method: str) -> bool:
        return method not in {"getupdates", "getme"} if self._methods is None else method in self._methods

    def _by_chance(self, method: str) -> Fault | None:
        drawn = self._chance.random()
        for kind, rate in self._rates:
            if drawn < rate:
                fault = kind if isinstance(kind, Fault) else self._of_kind(kind)
                return None if fault.kind is FaultKind.NOT_MODIFIED and method not in _EDITS else fault
            drawn -= rate
        return None

    def _of_kind(self, kind: FaultKind) -> Fault:
        return Fault(kind, self._chance.randint(*self._busy_s)) if kind is FaultKind.BUSY else Fault(kind)
