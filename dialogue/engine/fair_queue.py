"""Who is next? Start-time fair queueing over tokens. Pure: no clock, no event loop.

Every entry starts, in virtual time, when the earlier entries of its key are paid for, and not before the entry that was
served last; the earliest start is served first. Between keys that always wait, the served tokens differ by at most one
entry of each. (Deficit round robin is as fair over a long time; this one tells the order, and so everybody's place in
the queue, by sorting.)
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW = 64  # debts; so many are never looked through


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """Something that waits."""

    key: str  # whose it is
    cost: int  # tokens
    start: int  # virtual time, in tokens
    number: int  # order of arrival: decides between equal starts
    item: T


class FairQueue(Generic[T]):
    """A queue that is fair between keys and first-in-first-out within a key."""

    def __init__(self) -> None:
        self._waiting: dict[int, Entry[T]] = {}
        self._now = 0  # virtual time: the start of the entry that was served last
        self._paid_until: dict[str, int] = {}  # key -> end, in virtual time, of all that it was given or waits for
        self._looked_through = _FEW  # more debts than this: time to forget those that are paid
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """The cost of everything that waits."""
        return sum(entry.cost for entry in self._waiting.values())

    def push(self, key: str, cost: int, item: T) -> Entry[T]:
        """Let `item` wait; the entry is its handle."""
        self._last_number += 1
        entry = Entry(key, cost, self._start(key), self._last_number, item)
        self._waiting[entry.number] = entry
        self._paid_until[key] = entry.start + cost
        return entry

    def pop(self) -> Entry[T]:
        """Serve the next entry. Raises IndexError when nothing waits."""
        if not self._waiting:
            raise IndexError("nothing waits")
        entry = min(self._waiting.values(), key=_turn)
        del self._waiting[entry.number]
        self._now = entry.start
        if len(self._paid_until) > self._looked_through:
            self._paid_until = {key: until for key, until in self._paid_until.items() if until > self._now}
            self._looked_through = max(_FEW, 2 * len(self._paid_until))
        return entry

    def remove(self, entry: Entry[T]) -> None:
        """Give up waiting. What stood behind it with the same key moves up by its cost."""
        if self._waiting.pop(entry.number, None) is None:
            return
        for later in list(self._waiting.values()):
            if later.key == entry.key and later.number > entry.number:
                self._waiting[later.number] = Entry(later.key, later.cost, later.start - entry.cost, later.number, later.item)
        self._paid_until[entry.key] = self._paid_until.get(entry.key, entry.start + entry.cost) - entry.cost

    def settle(self) -> None:
        """Forget who has been served: nobody waits and nothing runs. Else the debts would be as many as the keys that ever came."""
        self._paid_until.clear()

    def order(self) -> list[Entry[T]]:
        """Return what waits in the order in which it would be served if nothing else came."""
        return sorted(self._waiting.values(), key=_turn)

    def tokens_before(self, key: str) -> int:
        """Return the cost of all that would be served before a new entry of `key`."""
        start = self._start(key)
        return sum(entry.cost for entry in self._waiting.values() if entry.start <= start)

    def tokens_of(self, key: str) -> int:
        """Return the cost of all that waits with this key."""
        return sum(entry.cost for entry in self._waiting.values() if entry.key == key)

    def heaviest_key(self) -> str:
        """Return the key with the most waiting tokens. Raises ValueError when nothing waits."""
        return max({entry.key for entry in self._waiting.values()}, key=lambda key: (self.tokens_of(key), key))

    def newest(self, key: str) -> Entry[T]:
        """Return the entry of `key` that came last. Raises ValueError when there is none."""
        return max((entry for entry in self._waiting.values() if entry.key == key), key=lambda entry: entry.number)

    def _start(self, key: str) -> int:
        return max(self._now, self._paid_until.get(key, 0))


def _turn(entry: Entry[T]) -> tuple[int, int]:
    return entry.start, entry.number
