"""Inbox, claims, turns and outbox do what the model says, whatever order things happen in, on both databases."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from storage.clock import ManualClock
from storage.database import Database
from storage.repositories.fence import FencedRepository
from storage.repositories.outbox import OutboxRepository
from tests.conftest import OpenDatabase
from tests.sizes import record_proof, size
from tests.storage.faults import AcknowledgesFirst, due_as_if_never_sent, hold_without_a_fence, start_whatever_happened
from tests.storage.machine import StoreMachine
from tests.storage.model import MAX_ATTEMPTS

EXAMPLES = size("state_machine", small=30, proof=500)
STEPS = 50


@pytest.fixture
def machine(open_temporary: OpenDatabase) -> Iterator[type[StoreMachine]]:
    """The machine over one open database; each run of it uses an account of its own."""
    now = ManualClock()
    with asyncio.Runner() as opened:
        opening = open_temporary(now, max_attempts=MAX_ATTEMPTS)
        database = opened.run(opening.__aenter__())

        class Machine(StoreMachine):
            runner, clock = opened, now

            def open_run(self) -> Database:
                return database

        try:
            yield Machine
        finally:
            opened.run(opening.__aexit__(None, None, None))


def run(machine: type[StoreMachine], *, examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Run the machine."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def find(machine: type[StoreMachine]) -> None:
    """Run until the fault shows; no time is spent on making the example small."""
    run(machine, examples=200, phases=(Phase.generate,))


@pytest.mark.timeout(120 + 5 * EXAMPLES)
def test_the_store_does_what_the_model_says(machine: type[StoreMachine], dialect: str) -> None:
    """No order of events, claims, deaths, sends and takeovers loses, repeats or reorders anything."""
    run(machine, examples=EXAMPLES)
    record_proof(f"state_machine_{dialect}", seed="derandomized", size=EXAMPLES, result=f"{EXAMPLES} runs of {STEPS} steps as the model")


def test_acknowledging_before_the_commit_is_found(machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that loses a unit after its answer does not pass."""
    open_run = machine.open_run

    def open_faulty(run: StoreMachine) -> AcknowledgesFirst:
        return AcknowledgesFirst(open_run(run))

    monkeypatch.setattr(machine, "open_run", open_faulty)
    with pytest.raises(AssertionError):
        find(machine)


def test_a_missing_fence_is_found(machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not check the claim's epoch does not pass."""
    monkeypatch.setattr(FencedRepository, "_hold", hold_without_a_fence)
    with pytest.raises(AssertionError):
        find(machine)


def test_a_blind_resend_is_found(machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lets a started message be sent again does not pass."""
    monkeypatch.setattr(OutboxRepository, "due", due_as_if_never_sent)
    monkeypatch.setattr(OutboxRepository, "start", start_whatever_happened)
    with pytest.raises(AssertionError, match=r"shown twice|the bot spoke"):
        find(machine)
