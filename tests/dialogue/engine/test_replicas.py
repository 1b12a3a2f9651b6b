"""Routing over equal servers: sticky, even, and steady when the list changes."""

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.remote_servers import ServerFacts, ServerKind
from dialogue.engine.replicas import LONGEST_PAUSE_S, Replica, ranked

FACTS = ServerFacts(ServerKind.VLLM, "0.33.0", 512, 2, "", {}, {})


def replicas(count: int) -> list[Replica]:
    return [Replica(f"http://host{number}", f"host{number}", FACTS) for number in range(count)]


@given(st.text(), st.integers(2, 8), st.integers(0, 7))
def test_a_server_that_leaves_moves_only_its_own(key: str, count: int, leaving: int) -> None:
    """Without one server the order of the others stays, so that only the conversations of that server move."""
    every = replicas(count)
    order = [replica.url for replica in ranked(every, key, 0.0)]
    gone = f"http://host{leaving % count}"
    left = [replica for replica in every if replica.url != gone]
    assert [replica.url for replica in ranked(left, key, 0.0)] == [url for url in order if url != gone]


def test_every_server_gets_its_share() -> None:
    """A thousand conversations spread over four servers, none of which gets less than a sixth."""
    every = replicas(4)
    firsts = [ranked(every, f"conversation-{number}", 0.0)[0].url for number in range(1000)]
    assert min(firsts.count(replica.url) for replica in every) > 166


@given(st.text(), st.integers(0, 3))
def test_failed_and_full_servers_come_last(key: str, which: int) -> None:
    """A failed server comes after all others until its pause is over; a full one comes after those with a free slot."""
    every = replicas(4)
    preferred = ranked(every, key, 100.0)[0]
    preferred.running = FACTS.slots
    assert ranked(every, key, 100.0)[-1] is preferred
    every[which].failed("broke", 100.0)
    assert ranked(every, key, 100.0)[-1] is every[which]
    preferred.running = 0
    assert ranked(every, key, 200.0)[0] is preferred


def test_pauses_grow_and_end() -> None:
    """The pause after a failure doubles up to half a minute; one success ends it."""
    replica = replicas(1)[0]
    pauses: list[float] = []
    for _ in range(8):
        replica.failed("broke", 0.0)
        pauses.append(replica.not_before)
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    replica.succeeded()
    assert (replica.not_before, replica.failures, replica.detail) == (0.0, 0, "")
