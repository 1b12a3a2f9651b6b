"""The program with its Telegram channel, killed with -9: nothing is lost, nothing is answered twice, the order holds.

Eight arms: polling and webhook, SQLite and PostgreSQL, with and without bursts. `make test-crash KILLS=N` runs them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.config import StorageConfig
from storage.testing import sqlite_config
from tests.crash.telegram_child import Plan
from tests.crash.telegram_harness import FAULTS, Findings, Forker, Harness, fake_telegram, forking, free_port
from tests.crash.telegram_points import POINTS
from tests.crash.telegram_steps import STEPS
from tests.sizes import record_proof, size

BURST_QUIET_S = 0.1
TRANSIENT = {"starting", "idle", "postponed", "generating", "preview noted"}  # steps that a run which dies at an edge need not be in


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """The process that forks the runs of this module."""
    with forking(tmp_path_factory.mktemp("forker")) as parent:
        yield parent


def _plan(folder: Path, storage: StorageConfig, *, ingress: str = "polling", quiet_s: float = 0.0, fault: str = "") -> Plan:
    port = free_port() if ingress == "webhook" else 0
    return Plan(str(folder), database_url=storage.url, webhook_port=port, quiet_s=quiet_s, fault=fault)


def _report(name: str, found: Findings, seed: int) -> None:
    print(f"{name}: {found}")
    record_proof(name, seed=seed, size=found.verdict.kills, result=str(found))


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("arm", ["polling", "polling, bursts", "webhook", "webhook, bursts"])
def test_kill_9_loses_nothing_and_repeats_nothing(
    forker: Forker, storage_config: StorageConfig, dialect: str, arm: str, tmp_path: Path
) -> None:
    """Killed again and again under load, with lost, late and refused calls: 0 lost, 0 twice, in order, every orphan listed."""
    kills, seed = size("telegram_crash", small=4, proof=1000), size("telegram_crash_seed", small=17, proof=17)
    ingress, _, bursts = arm.partition(", ")
    plan = _plan(tmp_path, storage_config, ingress=ingress, quiet_s=BURST_QUIET_S if bursts else 0.0)
    with fake_telegram(seed, FAULTS) as telegram:
        harness = Harness(plan, telegram, forker, seed=seed, burst=3 if bursts else 1)
        harness.kill_anywhere(kills)
        found = harness.finish()
    _report(f"kill -9 of the Telegram bot, {dialect}, {arm}", found, seed)
    assert found.is_clean, f"{found}\n{harness.tables()}\n{harness.log()}"
    assert kills < 200 or set(found.steps) | {"idle"} >= set(STEPS)  # a busy machine always has something to do


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ingress", ["polling", "webhook"])
def test_every_durable_edge_survives_a_kill(forker: Forker, ingress: str, tmp_path: Path) -> None:
    """Killed once at each edge between two durable steps, with nothing else going wrong: all steps are hit, and nothing shows it."""
    storage = sqlite_config(tmp_path)
    with fake_telegram(5, ()) as telegram:
        harness = Harness(_plan(tmp_path, storage, ingress=ingress), telegram, forker, seed=5)
        reached = {point for point in POINTS if harness.kill_at(point)}
        found = harness.finish()
    _report(f"kill -9 of the Telegram bot at each edge, {ingress}", found, 5)
    assert found.is_clean, f"{found}\n{harness.tables()}\n{harness.log()}"
    assert (reached, set(found.steps) | TRANSIENT) == (set(POINTS), set(STEPS))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("fault", "chaos", "found"),
    [("ack_first", (), "lost"), ("blind_resend", ("lost=0.1",), "twice"), ("no_fence", (), "twice")],
    ids=["ack_first", "blind_resend", "no_fence"],
)
def test_the_harness_finds_planted_faults(forker: Forker, fault: str, chaos: tuple[str, ...], found: str, tmp_path: Path) -> None:
    """Acknowledging before commit loses messages, a blind resend and a missing fence answer twice: the proof above can fail."""
    with fake_telegram(7, chaos) as telegram:
        harness = Harness(_plan(tmp_path, sqlite_config(tmp_path), fault=fault), telegram, forker, seed=7)
        for _ in range(size("telegram_crash_planted", small=4, proof=20)):
            harness.kill_at_random()
        verdict = harness.finish().verdict
    assert getattr(verdict, found) > 0, str(verdict)
