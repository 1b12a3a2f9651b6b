"""Which of several equal servers gets a request. Pure: time is an argument, nothing is sent.

The same key ranks the servers in the same order as long as the list stays (rendezvous hashing), so that a conversation finds
its KV again; a server that leaves moves only its own conversations, and one that joins takes only its share.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dialogue.engine.remote_servers import ServerFacts

LONGEST_PAUSE_S = 30.0
MOST_DOUBLINGS = 5  # past the longest pause; unbounded, a server that is away for a night overflows a float


@dataclass(slots=True)
class Replica:
    """One server and what is known of it now."""

    url: str  # root without /v1 and without a slash at the end
    label: str  # host and port: fit for logs and errors
    facts: ServerFacts | None = None  # None = not examined yet, or to be examined again
    slots: int = 1  # how many of our requests may run there at once
    running: int = 0  # our requests there
    failures: int = 0  # in a row
    not_before: float = 0.0  # seconds on the caller's clock; what the server asked for, or how long it is left alone after a failure
    detail: str = ""  # why it failed; empty = it did not
    adapters: Mapping[str, object] = field(default_factory=dict)  # release id -> what the server calls it

    def examined(self, facts: ServerFacts, slots: int, adapters: Mapping[str, object]) -> None:
        """It can serve."""
        self.facts, self.slots, self.adapters = facts, slots, adapters
        self.not_before, self.detail = 0.0, ""

    def answered(self) -> None:
        """It makes text: whatever was wrong is over."""
        self.failures = 0

    def failed(self, detail: str, now: float) -> None:
        """It did not answer, or not well: leave it alone for 1, 2, 4 … 30 seconds. It is examined again before it is used."""
        self.failures += 1
        self.not_before = now + min(LONGEST_PAUSE_S, 2.0 ** min(self.failures - 1, MOST_DOUBLINGS))
        self.detail = detail
        self.facts = None

    def refused(self, detail: str, until: float) -> None:
        """It has too much to do, and is not asked again before it said so."""
        self.not_before, self.detail = until, detail

    def is_full(self) -> bool:
        """Whether we run there as much as we may."""
        return self.running >= self.slots

    def is_resting(self, now: float) -> bool:
        """Whether it serves, but asked to be left alone for a while."""
        return self.facts is not None and self.not_before > now


class _Wait:
    """What `choose` says when a slot has to become free first."""


WAIT: Final = _Wait()


def choose(replicas: Sequence[Replica], key: str, now: float, tried: Collection[str] = ()) -> Replica | _Wait | None:
    """Return the server that a request with this key should try next, WAIT for a slot, or None when no server is left to try.

    A full server is passed by for the next that serves. One that failed is tried only when no other is left, however much runs there:
    it has to be examined first, which takes no slot. One that has asked for a pause gets it.
    """
    left = [replica for replica in replicas if replica.url not in tried and not replica.is_resting(now)]
    serving = [replica for replica in left if replica.facts is not None]
    free = [replica for replica in serving if not replica.is_full()] if serving else left
    if free:
        return max(free, key=lambda replica: _weight(replica.url, key))
    return WAIT if serving else None


def _weight(url: str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{url}\n{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
