"""Routing over equal servers: sticky, even, and steady when the list changes."""

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.remote_servers import ServerFacts, ServerKind
from dialogue.engine.replicas import LONGEST_PAUSE_S, WAIT, Replica, choose

FACTS = ServerFacts(ServerKind.VLLM, "0.33.0", 512, 2, "", {}, {})
KEYS = [f"conversation-{number}" for number in range(1000)]


def replicas(count: int) -> list[Replica]:
    return [Replica(f"http://host{number}", f"host{number}", FACTS, slots=2) for number in range(count)]


def order(every: list[Replica], key: str) -> list[str]:
    """Return the servers in the order in which a request with this key tries them."""
    tried: list[str] = []
    while isinstance(chosen := choose(every, key, 0.0, tried), Replica):
        tried.append(chosen.url)
    return tried


@given(st.text(), st.integers(2, 8), st.integers(0, 7))
def test_a_server_that_leaves_moves_only_its_own(key: str, count: int, leaving: int) -> None:
    """Without one server the order of the others stays, so that only the conversations of that server move."""
    every = replicas(count)
    gone = f"http://host{leaving % count}"
    left = [replica for replica in every if replica.url != gone]
    assert order(left, key) == [url for url in order(every, key) if url != gone]


@given(st.lists(st.text(), unique=True), st.integers(1, 7))
def test_a_server_that_joins_takes_only_its_share(keys: list[str], count: int) -> None:
    """With one more server a conversation stays where it is, or goes to the new one; none moves between old ones."""
    before, after = replicas(count), replicas(count + 1)
    for key in keys:
        assert order(after, key)[0] in {order(before, key)[0], after[-1].url}


def test_every_server_gets_its_share() -> None:
    """A thousand conversations spread over four servers, none of which gets less than a sixth; a fifth one takes about a fifth."""
    firsts = [order(replicas(4), key)[0] for key in KEYS]
    assert min(firsts.count(replica.url) for replica in replicas(4)) > 166
    moved = sum(order(replicas(5), key)[0] != first for key, first in zip(KEYS, firsts, strict=True))
    assert 150 < moved < 250


@given(st.text(), st.integers(0, 3))
def test_failed_full_and_resting_servers(key: str, which: int) -> None:
    """A full server is passed by; when all are full, the request waits. A failed one comes last, one that asked for a pause gets it."""
    every = replicas(4)
    preferred = order(every, key)[0]
    every[which].running = 2
    assert order(every, key) == [url for url in order(replicas(4), key) if url != every[which].url]
    for replica in every:
        replica.running = 2
    assert choose(every, key, 0.0) is WAIT
    every[which].failed("broke", 0.0)
    every[which].running = 0
    assert choose(every, key, 0.0) is WAIT
    for replica in every:
        replica.refused("busy", 7.0) if replica.facts else None
    assert choose(every, key, 0.0) is every[which]
    assert choose(every, key, 0.0, {every[which].url}) is None
    for replica in every:
        replica.running = 0
    every[which].examined(FACTS, 2, {})
    assert isinstance(found := choose(every, key, 7.0), Replica)
    assert found.url == preferred


def test_pauses_grow_and_end() -> None:
    """The pause after a failure doubles up to half a minute; being examined ends it, and only an answer makes the next one short."""
    replica = replicas(1)[0]
    pauses: list[float] = []
    for _ in range(8):
        replica.failed("broke", 0.0)
        pauses.append(replica.not_before)
        replica.examined(FACTS, 2, {})
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert (replica.not_before, replica.detail) == (0.0, "")
    replica.answered()
    replica.failed("broke", 0.0)
    assert replica.not_before == 1


def test_a_server_that_is_away_for_a_night() -> None:
    """Two thousand failures in a row make no longer pause than five; once, the 1,025th was too large for a float and ended all looks."""
    replica = replicas(1)[0]
    for _ in range(2000):
        replica.failed("broke", 7.0)
    assert (replica.failures, replica.not_before) == (2000, 7.0 + LONGEST_PAUSE_S)
