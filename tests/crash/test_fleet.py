"""Several workers share one PostgreSQL and nothing else: killed and stalled, they lose nothing, repeat nothing, keep the order."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from storage.testing import drop_postgres, postgres_config
from tests.crash.fleet_harness import Fleet, Forker, forkers
from tests.crash.telegram_child import Plan
from tests.crash.telegram_harness import fake_telegram
from tests.sizes import record_proof, size

SEED = 29
WORKERS = size("fleet_workers", small=2, proof=4)

OpenFleet = Callable[..., AbstractContextManager[Fleet]]


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Forker]]:
    """The processes that fork the workers of this module."""
    with forkers(tmp_path_factory.mktemp("fleet"), WORKERS) as started:
        yield started


@pytest.fixture
def open_fleet(parents: list[Forker], postgres_url: str, tmp_path: Path) -> OpenFleet:
    """A function that starts workers on an empty database: `with open_fleet(workers=2, conversations=6) as fleet`."""

    @contextmanager
    def opened(*, workers: int, conversations: int, fault: str = "") -> Iterator[Fleet]:
        config = postgres_config(postgres_url)
        plan = Plan(str(tmp_path / str(workers)), database_url=config.url, fault=fault)
        try:
            with (
                fake_telegram(SEED, ()) as telegram,
                Fleet(plan, telegram, parents[:workers], conversations=conversations, seed=SEED) as fleet,
            ):
                fleet.wait_until_ready()
                yield fleet
        finally:
            drop_postgres(postgres_url, config)

    return opened


@pytest.mark.timeout(5400)
def test_workers_share_a_database(open_fleet: OpenFleet) -> None:
    """Killed and stalled in turn under load: 0 lost, 0 answered twice, 0 out of order, and another one polls when the poller is gone."""
    conversations, messages = size("fleet_conversations", small=6, proof=1000), size("fleet_messages", small=3, proof=50)
    with open_fleet(workers=WORKERS, conversations=conversations) as fleet:
        fleet.converse(messages, harms=size("fleet_harms", small=3, proof=300))
        takeovers, found = fleet.poll_takeovers(), fleet.finish()
        tables = fleet.harness.tables()
    result = f"{WORKERS} workers, {conversations} conversations: {found.verdict}; {fleet.stalls} stalls, {takeovers} takeovers of polling"
    print(result)
    record_proof("workers share a database", seed=SEED, size=conversations * messages, result=result)
    assert found.verdict.is_clean, f"{found}\n{tables}"
    assert takeovers > 0


@pytest.mark.timeout(1800)
def test_throughput_by_worker_count(open_fleet: OpenFleet) -> None:
    """One message in each of many conversations is answered by one worker, by two, by four; the times are noted, not judged."""
    conversations = size("fleet_throughput", small=4, proof=1000)
    rates: list[str] = []
    for workers in (count for count in (1, 2, 4) if count <= WORKERS):
        with open_fleet(workers=workers, conversations=conversations) as fleet:
            rates.append(f"{conversations / fleet.say_once():.0f}/s with {workers}")
            assert fleet.finish().verdict.is_clean
    result = f"answers by workers: {', '.join(rates)} (each up to 8 at once, about a quarter of a second of the scripted engine)"
    print(result)
    record_proof("throughput by workers on one database", seed=SEED, size=conversations, result=result)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("fault", "times"), [("", 1), ("no_claim_fence", 4)], ids=["fenced", "planted fault"])
def test_workers_that_oversleep_their_leases(open_fleet: OpenFleet, fault: str, times: int) -> None:
    """Who wakes up after its lease has lost the conversation and writes nothing; one that does not look answers twice, and is seen."""
    with open_fleet(workers=2, conversations=6, fault=fault) as fleet:
        for _ in range(times):  # on a busy machine a worker may be done in the moment in which it is stopped
            fleet.oversleep()
        verdict = fleet.finish().verdict
    assert verdict.is_clean is not bool(fault), str(verdict)
    assert (verdict.twice > 0) is bool(fault), str(verdict)
