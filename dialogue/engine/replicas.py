"""Which of several equal servers gets a request. Pure: time is an argument, nothing is sent.

The same key ranks the servers in the same order as long as the list stays (rendezvous hashing), so that a conversation finds
its KV again, and a server that leaves moves only its own conversations. Servers that failed lately, then servers whose slots
are all taken, come after the others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from dialogue.engine.remote_servers import ServerFacts

LONGEST_PAUSE_S = 30.0


@dataclass(slots=True)
class Replica:
    """One server and what is known of it now."""

    url: str  # root without /v1 and without a slash at the end
    label: str  # host and port: fit for logs and errors
    facts: ServerFacts | None = None  # None = not examined yet, or to be examined again
    running: int = 0  # our requests there
    failures: int = 0  # in a row
    not_before: float = 0.0  # seconds on the caller's clock; before that only if nobody else is left
    detail: str = ""  # why it failed; empty = it did not
    adapters: dict[str, object] = field(default_factory=dict)  # release id -> what the server calls it

    def succeeded(self) -> None:
        """It answered."""
        self.failures, self.not_before, self.detail = 0, 0.0, ""

    def failed(self, detail: str, now: float) -> None:
        """It did not answer, or not well: leave it alone for 1, 2, 4 … 30 seconds. It is examined again before it is used."""
        self.failures += 1
        self.not_before = now + min(LONGEST_PAUSE_S, 2.0 ** (self.failures - 1))
        self.detail = detail
        self.facts = None

    def refused(self, detail: str, until: float) -> None:
        """It has too much to do."""
        self.not_before, self.detail = until, detail

    def full(self) -> bool:
        """Whether all its slots are taken by us."""
        return self.facts is not None and self.running >= self.facts.slots


def ranked(replicas: Sequence[Replica], key: str, now: float) -> list[Replica]:
    """Return the servers in the order in which a request with this key should try them."""
    return sorted(replicas, key=lambda replica: (replica.not_before > now, replica.full(), -_weight(replica.url, key)))


def _weight(url: str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{url}\n{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
