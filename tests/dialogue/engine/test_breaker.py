"""The circuit breaker: its pure core, and the engine around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.base import GenerationFinished, GenerationRequest, SamplingParams
from dialogue.engine.breaker import BreakerEngine, BreakerLimits, Circuit, Pass
from dialogue.engine.scripted import Fault, FaultKind, ScriptedEngine
from dialogue.errors import EngineUnavailable, RequestTooLong

LIMITS = BreakerLimits(failures=3, cool_down_s=10)


def entered(circuit: Circuit, now: float) -> Pass:
    given_pass = circuit.enter(now)
    assert given_pass is not None
    return given_pass


def fail(circuit: Circuit, now: float) -> None:
    given_pass = entered(circuit, now)
    circuit.failed(given_pass, now)
    circuit.leave(given_pass)


def opened() -> Circuit:
    """A circuit that opened at 2 s."""
    circuit = Circuit(LIMITS)
    for now in range(3):
        fail(circuit, now)
    assert not circuit.is_closed
    return circuit


def test_opens_after_failures_in_a_row() -> None:
    """Three failures in a row open it, and nothing passes until the cool-down is over."""
    circuit = opened()
    assert circuit.enter(2.1) is None
    assert circuit.retry_after_s(4) == 8
    assert circuit.enter(11.9) is None
    assert circuit.enter(12) is not None


def test_a_success_in_between_forgives() -> None:
    """Failures that are not in a row do not open it."""
    circuit = Circuit(LIMITS)
    for now in range(20):
        fail(circuit, now)
        if now % 2:
            circuit.finished()
    assert circuit.is_closed


def test_one_incident_counts_once() -> None:
    """A crash that takes ten requests along is one failure."""
    circuit = Circuit(LIMITS)
    passes = [entered(circuit, now) for now in range(10)]
    for each in passes:
        circuit.failed(each, 10)
        circuit.leave(each)
    assert circuit.is_closed


def test_one_probe_at_a_time() -> None:
    """While the probe of a half-open circuit is out, no other passes; when it leaves without news, the next one may."""
    circuit = opened()
    probe = entered(circuit, 12)
    assert probe.is_probe
    assert circuit.enter(13) is None
    circuit.leave(probe)
    assert entered(circuit, 13).is_probe


def test_an_old_request_is_no_probe() -> None:
    """A request from before the opening that ends now does not let a second probe pass."""
    circuit = Circuit(LIMITS)
    old = entered(circuit, 0)
    for now in range(3):
        fail(circuit, now)
    entered(circuit, 12)
    circuit.leave(old)
    assert circuit.enter(13) is None


def test_probe_that_answers_closes() -> None:
    """Text closes it for everybody, but the very next failure opens it again; a finished request clears it."""
    circuit = opened()
    probe = entered(circuit, 12)
    circuit.answered()
    assert circuit.is_closed
    circuit.failed(probe, 13)
    assert not circuit.is_closed
    circuit.leave(probe)
    entered(circuit, 23)
    circuit.finished()
    fail(circuit, 24)
    assert circuit.is_closed


def test_probe_that_fails_opens_again() -> None:
    """A failed probe starts the cool-down anew."""
    circuit = opened()
    fail(circuit, 12)
    assert circuit.enter(21.9) is None
    assert circuit.enter(22) is not None


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["failed", "finished", "left"])), max_size=60))
def test_never_stays_open_for_ever(history: list[tuple[float, str]]) -> None:
    """Whatever happened, a request may pass after the cool-down, and an open circuit has seen enough failures in a row."""
    circuit, now, in_a_row = Circuit(LIMITS), 0.0, 0
    for pause, outcome in history:
        now += pause
        given_pass = circuit.enter(now)
        if given_pass is None:
            assert in_a_row >= LIMITS.failures
            continue
        if outcome == "failed":
            circuit.failed(given_pass, now)
            in_a_row += 1
        elif outcome == "finished":
            circuit.finished()
            in_a_row = 0
        circuit.leave(given_pass)
    assert circuit.enter(now + LIMITS.cool_down_s) is not None


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def request(request_id: str = "r", prompt: tuple[int, ...] = (1,)) -> GenerationRequest:
    return GenerationRequest(request_id, prompt, SamplingParams())


async def run(engine: BreakerEngine, wanted: GenerationRequest) -> str:
    """Return the name of what came of it."""
    try:
        events = [event async for event in engine.generate(wanted)]
    except (EngineUnavailable, RequestTooLong) as error:
        return f"{type(error).__name__}: {error}"
    assert isinstance(events[-1], GenerationFinished)
    return "finished"


async def test_engine_is_left_alone_and_tried_again() -> None:
    """After three failures the engine is asked no more; after the cool-down one answer makes all well."""
    clock = Clock()
    inner = ScriptedEngine("ok", faults=[Fault(FaultKind.RAISE, request_ids=("bad",), after_tokens=0)])
    engine = BreakerEngine(inner, LIMITS, clock=clock)
    await engine.start()
    for _ in range(3):
        assert await run(engine, request("bad")) == "EngineUnavailable: scripted failure"
    assert "tried again in 10 s" in await run(engine, request("good"))
    assert not engine.health().ready
    assert "several times in a row" in engine.health().detail
    clock.now = 10
    assert await run(engine, request("good")) == "finished"
    assert engine.health().ready
    await engine.close()


async def test_other_errors_tell_nothing_about_the_engine() -> None:
    """A request that is too long, or that was cancelled, is no failure of the engine."""
    engine = BreakerEngine(ScriptedEngine("ok" * 100, context_tokens=10), LIMITS)
    await engine.start()
    for _ in range(10):
        assert (await run(engine, request(prompt=(1,) * 20))).startswith("RequestTooLong")
        stream = engine.generate(request())
        await anext(stream)
        await stream.aclose()
    assert await run(engine, request()) == "finished"
    await engine.close()


@pytest.mark.parametrize("outcome", ["too long", "cancelled"])
async def test_probe_without_news(outcome: str) -> None:
    """A probe that tells nothing makes room for the next one."""
    clock = Clock()
    inner = ScriptedEngine("ok" * 9, context_tokens=10, faults=[Fault(FaultKind.RAISE, request_ids=("bad",), after_tokens=0)])
    engine = BreakerEngine(inner, LIMITS, clock=clock)
    await engine.start()
    for _ in range(3):
        await run(engine, request("bad"))
    clock.now = 10
    if outcome == "too long":
        await run(engine, request(prompt=(1,) * 20))
    else:
        probe = engine.generate(request("never read"))
        await anext(probe)
        await probe.aclose()
    assert await run(engine, request("good")) == "finished"
    await engine.close()
