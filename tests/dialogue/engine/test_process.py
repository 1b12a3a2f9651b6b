"""The supervised child: every way to die, who is blamed, what is left behind."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dialogue.engine.base import AdapterRef, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.child_process import ChildProcess
from dialogue.engine.process import ProcessEngine, ProcessLimits
from dialogue.engine.spec import EngineSpec
from dialogue.engine.suspects import Suspects
from dialogue.engine.wire import MAX_FRAME_BYTES
from dialogue.errors import AdapterRejected, AdapterUnknown, DeadlineExceeded, EngineUnavailable, RequestPoisoned, RequestTooLong
from tests.sizes import record_proof, size
from tests.waiting import until

ANSWER = "an answer of forty characters, and no more"
PATIENT_S = 20.0  # a limit for what should take milliseconds, on a busy machine
LIMITS = ProcessLimits(start_timeout_s=PATIENT_S, backoff_s=(0.0, 0.01, 0.02))


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """After every test: no child process, no zombie, no open descriptor more than before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert psutil.Process().children(recursive=True) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


@asynccontextmanager
async def hosted(
    *faults: dict[str, Any], limits: ProcessLimits = LIMITS, adapters_at_start: bool = False, **arguments: Any
) -> AsyncGenerator[ProcessEngine, None]:
    """A ScriptedEngine in a child, started."""
    spec = EngineSpec("scripted", {"reply": ANSWER, "slots": 3, "faults": list(faults), **arguments}, adapters_at_start)
    engine = ProcessEngine(spec, limits)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def request(request_id: str = "r", *, deadline_s: float = PATIENT_S, tokens: int = 100, endless: bool = False) -> GenerationRequest:
    return GenerationRequest(request_id, (1, 2, 3), SamplingParams(max_tokens=tokens, ignore_eos=endless), deadline_s=deadline_s)


async def answer(engine: ProcessEngine, wanted: GenerationRequest) -> str:
    return "".join([event.text async for event in engine.generate(wanted) if isinstance(event, TextDelta)])


async def outcome(engine: ProcessEngine, wanted: GenerationRequest) -> str:
    """Return the answer, or the name of the error."""
    try:
        return await answer(engine, wanted)
    except (EngineUnavailable, RequestPoisoned, DeadlineExceeded) as error:
        return type(error).__name__


WAYS_TO_DIE = {
    "crash": "SIGABRT; it said last: .*",
    "kill": "ended by SIGKILL",
    "out_of_memory": "ran out of memory",
    "freeze": "hung: no sign of life for 1 s",
}


@pytest.mark.parametrize(("kind", "words"), WAYS_TO_DIE.items())
async def test_death(kind: str, words: str) -> None:
    """However the child dies: the request hears why, the next one is answered by a new child, and the restart is counted."""
    limits = ProcessLimits(start_timeout_s=PATIENT_S, hang_timeout_s=1.0 if kind == "freeze" else PATIENT_S)
    async with hosted({"kind": kind, "request_ids": ["bad"]}, limits=limits) as engine:
        first = engine.child_pid
        events = engine.generate(request("bad"))
        assert await anext(events) == TextDelta("an a")
        with pytest.raises(EngineUnavailable, match=words):
            await anext(events)
        assert await answer(engine, request("good")) == ANSWER
        assert engine.child_pid != first
        assert engine.health().restarts == 1
        assert engine.health().running == 0


def stand_still_until_dead(pid: int) -> None:
    """Let the event loop do nothing until this process has ended, whether somebody has reaped it by then or not."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_last_words_outlive_a_write_to_the_dead() -> None:
    """What the child said before its death counts, even if something was sent to it after its death and before that was read."""
    faults = [{"kind": "crash", "request_ids": ["bad"]}]
    child = ChildProcess(EngineSpec("scripted", {"reply": ANSWER, "slots": 1, "faults": faults}), LIMITS)
    await child.start(())
    stream = child.open(request("bad"), on_end=lambda: None)
    stand_still_until_dead(child.pid)
    child.cancel(stream)
    await child.gone
    assert stream.begun


async def test_twice_deadly_is_poisoned() -> None:
    """A request that kills the child twice is refused from then on, without harm to a third child."""
    async with hosted({"kind": "kill", "request_ids": ["bad"]}) as engine:
        assert [await outcome(engine, request("bad")) for _ in range(4)] == ["EngineUnavailable", *["RequestPoisoned"] * 3]
        assert await answer(engine, request()) == ANSWER
        assert engine.health().restarts == 2


async def run_beside(engine: ProcessEngine) -> tuple[list[str], list[str]]:
    """Run two innocent requests beside a deadly one, all of them again after its death; return both rounds' outcomes."""
    innocents = [engine.generate(request(f"innocent {number}", tokens=40, endless=True)) for number in range(2)]
    for events in innocents:
        await anext(events)
    deadly = asyncio.create_task(outcome(engine, request("bad")))

    async def rest(events: AsyncGenerator[Any, None]) -> str:
        try:
            return [type(event).__name__ async for event in events][-1]
        except (EngineUnavailable, RequestPoisoned) as error:
            return type(error).__name__

    first = await asyncio.gather(deadly, *map(rest, innocents))
    again = [rest(engine.generate(request(f"innocent {number}", tokens=40, endless=True))) for number in range(2)]
    return first, await asyncio.gather(outcome(engine, request("bad")), *again)


async def test_the_innocent_are_spared() -> None:
    """What ran beside a deadly request is answered when it is tried again beside it once more."""
    async with hosted({"kind": "kill", "request_ids": ["bad"], "after_tokens": 5}, token_delay_s=0.01) as engine:
        first, second = await run_beside(engine)
        assert first == ["EngineUnavailable"] * 3
        assert second == ["RequestPoisoned", "GenerationFinished", "GenerationFinished"]


def _never_alone(_suspects: Suspects, _request_id: str) -> bool:
    return False


async def test_without_solitude_the_innocent_would_suffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof above notices a supervisor that tries suspects beside one another."""
    monkeypatch.setattr(Suspects, "must_run_alone", _never_alone)
    async with hosted({"kind": "kill", "request_ids": ["bad"], "after_tokens": 5}, token_delay_s=0.01) as engine:
        _first, second = await run_beside(engine)
        assert second != ["RequestPoisoned", "GenerationFinished", "GenerationFinished"]


async def test_an_idle_death_is_not_noticed() -> None:
    """When the child dies between requests, the next request is answered as if nothing had been."""
    async with hosted() as engine:
        for _ in range(3):
            os.kill(engine.child_pid, signal.SIGKILL)
            assert await answer(engine, request()) == ANSWER
        assert engine.health().restarts == 3


async def test_a_bug_is_no_death() -> None:
    """An unexpected error in the engine fails its request only, and names itself."""
    async with hosted({"kind": "bug", "request_ids": ["bad"]}) as engine:
        with pytest.raises(EngineUnavailable, match="RuntimeError: scripted bug"):
            await answer(engine, request("bad"))
        assert await answer(engine, request()) == ANSWER
        assert engine.health().restarts == 0


async def test_a_request_that_ignores_its_cancellation() -> None:
    """A child that does not give up a request in time counts as hung, though it answers pings."""
    limits = ProcessLimits(start_timeout_s=PATIENT_S, hang_timeout_s=1.0)
    async with hosted({"kind": "stubborn", "request_ids": ["bad"]}, limits=limits) as engine:
        assert await outcome(engine, request("bad", deadline_s=0.1)) == "DeadlineExceeded"
        assert await answer(engine, request()) == ANSWER
        await until(lambda: engine.health().restarts == 1, timeout_s=PATIENT_S)
        assert await answer(engine, request()) == ANSWER


async def test_patience_with_a_slow_request() -> None:
    """A request that says nothing for longer than the hang time-out is left alone as long as the child answers pings."""
    limits = ProcessLimits(start_timeout_s=PATIENT_S, hang_timeout_s=1.0)
    async with hosted(limits=limits, prompt_delay_s=1.6) as engine:
        assert await answer(engine, request()) == ANSWER
        assert engine.health().restarts == 0


async def test_deadline_does_not_wait_for_a_frozen_child() -> None:
    """The deadline holds though the child is silent."""
    limits = ProcessLimits(start_timeout_s=PATIENT_S, close_timeout_s=0.1)
    async with hosted({"kind": "freeze", "request_ids": ["bad"]}, limits=limits) as engine:
        began = time.monotonic()
        assert await outcome(engine, request("bad", deadline_s=0.2)) == "DeadlineExceeded"
        assert time.monotonic() - began < PATIENT_S / 2


async def test_memory_limit() -> None:
    """A child with a memory limit dies of it instead of taking the machine along."""
    limits = ProcessLimits(start_timeout_s=PATIENT_S, memory_limit_bytes=256 << 20)
    async with hosted({"kind": "out_of_memory", "request_ids": ["bad"]}, limits=limits) as engine:
        with pytest.raises(EngineUnavailable, match="out of memory"):
            await answer(engine, request("bad"))
        assert await answer(engine, request()) == ANSWER


async def test_start_fails() -> None:
    """The reason why an engine does not start arrives, and nothing is left."""
    with pytest.raises(EngineUnavailable, match="no such model"):
        async with hosted(start_error="no such model"):
            pass


async def test_start_takes_too_long() -> None:
    """A child that is not ready in time is killed."""
    with pytest.raises(EngineUnavailable, match="did not start within"):
        async with hosted(start_delay_s=60, limits=ProcessLimits(start_timeout_s=0.3)):
            pass


async def test_unknown_kind() -> None:
    """A spec that names no known engine does not start."""
    engine = ProcessEngine(EngineSpec("os:system"), LIMITS)
    with pytest.raises(EngineUnavailable, match="no engine of kind 'os:system'"):
        await engine.start()
    await engine.close()


async def test_start_is_cancelled() -> None:
    """Cancelling start() leaves no process; the engine may be started again."""
    arguments = {"reply": ANSWER, "start_delay_s": 60}
    engine = ProcessEngine(EngineSpec("scripted", arguments), LIMITS)
    starting = asyncio.create_task(engine.start())
    await until(lambda: bool(psutil.Process().children()), timeout_s=PATIENT_S)
    starting.cancel()
    await asyncio.wait({starting})
    assert psutil.Process().children() == []
    del arguments["start_delay_s"]
    await engine.start()
    assert await answer(engine, request()) == ANSWER
    await engine.close()


@pytest.mark.parametrize("steps", range(24))
def test_everything_is_cancelled_while_starting(steps: int) -> None:
    """When the whole event loop ends in the middle of a start, it ends: nothing waits for a process that nobody attends."""

    async def start_and_leave() -> None:
        engine = ProcessEngine(EngineSpec("scripted"), LIMITS)
        starting = asyncio.create_task(engine.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        del starting

    asyncio.run(start_and_leave())
    _gone, alive = psutil.wait_procs(psutil.Process().children(), PATIENT_S)
    assert not alive


async def test_close_while_starting() -> None:
    """close() does not wait for a start that takes long."""
    engine = ProcessEngine(EngineSpec("scripted", {"start_delay_s": 60}), LIMITS)
    starting = asyncio.create_task(engine.start())
    await until(lambda: bool(psutil.Process().children()), timeout_s=PATIENT_S)
    async with asyncio.timeout(PATIENT_S):
        await engine.close()
        with pytest.raises(EngineUnavailable):
            await starting


async def test_restart_that_fails() -> None:
    """While the child cannot be started again, requests are refused at once; when it can, they are answered."""
    arguments: dict[str, Any] = {"reply": ANSWER}
    engine = ProcessEngine(EngineSpec("scripted", arguments), ProcessLimits(start_timeout_s=PATIENT_S, backoff_s=(0.0, 0.05)))
    await engine.start()
    arguments["start_error"] = "disk is full"
    os.kill(engine.child_pid, signal.SIGKILL)
    await until(lambda: engine.health().detail == "disk is full", timeout_s=PATIENT_S)
    with pytest.raises(EngineUnavailable, match="disk is full"):
        await answer(engine, request())
    assert not engine.health().ready
    del arguments["start_error"]
    await until(lambda: engine.health().ready, timeout_s=PATIENT_S)
    assert await answer(engine, request()) == ANSWER
    await engine.close()


async def test_close_while_restarts_fail() -> None:
    """close() ends the attempts."""
    arguments: dict[str, Any] = {"reply": ANSWER}
    engine = ProcessEngine(EngineSpec("scripted", arguments), ProcessLimits(start_timeout_s=PATIENT_S, backoff_s=(0.0, 60.0)))
    await engine.start()
    arguments["start_error"] = "disk is full"
    os.kill(engine.child_pid, signal.SIGKILL)
    await until(lambda: engine.health().detail == "disk is full", timeout_s=PATIENT_S)
    await engine.close()
    assert engine.health().detail == "closed"


async def test_requests_wait_for_a_restart() -> None:
    """A request that comes while the child is being started again waits for it, up to its deadline."""
    arguments: dict[str, Any] = {"reply": ANSWER}
    engine = ProcessEngine(EngineSpec("scripted", arguments), LIMITS)
    await engine.start()
    arguments["start_delay_s"] = 1.0
    os.kill(engine.child_pid, signal.SIGKILL)
    await until(lambda: not engine.health().ready, timeout_s=PATIENT_S)
    assert await asyncio.gather(outcome(engine, request(deadline_s=0.1)), outcome(engine, request("s"))) == ["DeadlineExceeded", ANSWER]
    await engine.close()


async def test_too_large_for_a_frame() -> None:
    """A prompt that does not fit a frame is RequestTooLong, and the child lives on."""
    async with hosted() as engine:
        with pytest.raises(RequestTooLong):
            await answer(engine, GenerationRequest("r", (1234567,) * (MAX_FRAME_BYTES // 8 + 1), SamplingParams()))
        assert engine.health().running == 0
        assert await answer(engine, request()) == ANSWER


async def test_signals_are_left_to_the_parent() -> None:
    """Ctrl-C and a service manager's SIGTERM do not end the child: the parent decides."""
    async with hosted(token_delay_s=0.01) as engine:
        events = engine.generate(request())
        await anext(events)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(engine.child_pid, number)
        assert isinstance([event async for event in events][-1], GenerationFinished)
        assert os.getpgid(engine.child_pid) != os.getpgid(0)
        assert engine.health().restarts == 0


async def test_cancellations_leave_nothing_behind() -> None:
    """After many cancellations at random moments every slot is free again, each within a second."""
    count, seed = size("engine_cancels", small=100, proof=1000), 11
    chance = random.Random(seed)
    slowest = 0.0
    async with hosted(token_delay_s=0.002, slots=3) as engine:
        for number in range(count):
            events = engine.generate(request(f"cancelled {number}", endless=True, tokens=1000))
            reading = asyncio.create_task(read(events, chance.randrange(6)))
            if chance.random() < 0.5:
                await reading
            else:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait({reading})
            began = time.monotonic()
            await events.aclose()
            await until(lambda: engine.health().running == 0)
            slowest = max(slowest, time.monotonic() - began)
        assert engine.health().restarts == 0
        assert await asyncio.gather(*(answer(engine, request(f"after {number}")) for number in range(6))) == [ANSWER] * 6
    record_proof("engine_cancels", seed=seed, size=count, result=f"no slot left behind; slowest {slowest * 1000:.0f} ms")


async def read(events: AsyncGenerator[Any, None], count: int) -> None:
    for _ in range(count):
        await anext(events)


async def test_new_adapters_in_a_second_child(tmp_path: Path) -> None:
    """A running request comes to its end on the old child while new ones are answered with the new adapters; then the old child ends."""
    async with hosted(adapters_at_start=True, token_delay_s=0.01) as engine:
        old = psutil.Process(engine.child_pid)
        running = engine.generate(request("old", tokens=60, endless=True))
        await anext(running)
        await engine.set_adapters([AdapterRef("new", str(tmp_path))])
        assert engine.child_pid != old.pid
        wanted = GenerationRequest("new", (1,), SamplingParams(), adapter="new")
        assert await answer(engine, wanted) == f"[new] {ANSWER}"
        assert old.is_running()
        assert isinstance([event async for event in running][-1], GenerationFinished)
        await asyncio.to_thread(old.wait, PATIENT_S)
        assert engine.health().restarts == 0
        os.kill(engine.child_pid, signal.SIGKILL)
        assert await answer(engine, wanted) == f"[new] {ANSWER}"


@pytest.mark.parametrize("adapters_at_start", [True, False])
async def test_rejected_adapters_change_nothing(tmp_path: Path, adapters_at_start: bool) -> None:
    """When the new adapters do not load, the old child goes on with the old ones."""
    async with hosted(adapters_at_start=adapters_at_start) as engine:
        await engine.set_adapters([AdapterRef("old", str(tmp_path))])
        before = engine.child_pid
        with pytest.raises(AdapterRejected, match="there is no folder"):
            await engine.set_adapters([AdapterRef("new", str(tmp_path / "nothing"))])
        assert engine.child_pid == before
        assert await answer(engine, GenerationRequest("r", (1,), SamplingParams(), adapter="old")) == f"[old] {ANSWER}"
        with pytest.raises(AdapterUnknown):
            await answer(engine, GenerationRequest("r", (1,), SamplingParams(), adapter="new"))


async def test_second_child_that_does_not_start(tmp_path: Path) -> None:
    """When a second child cannot be started at all, that is a rejection of the adapters."""
    arguments: dict[str, Any] = {"reply": ANSWER}
    engine = ProcessEngine(EngineSpec("scripted", arguments, adapters_at_start=True), LIMITS)
    await engine.start()
    arguments["start_error"] = "no memory for two"
    with pytest.raises(AdapterRejected, match="no memory for two"):
        await engine.set_adapters([AdapterRef("new", str(tmp_path))])
    assert await answer(engine, request()) == ANSWER
    await engine.close()


async def test_close_ends_what_runs_and_what_waits() -> None:
    """Everything that runs or waits for a slot raises EngineUnavailable when the engine is closed."""
    async with hosted(token_delay_s=0.01) as engine:
        tasks = [asyncio.create_task(outcome(engine, request(f"r{number}", tokens=1000, endless=True))) for number in range(6)]
        await until(lambda: (engine.health().running, engine.health().waiting) == (3, 3))
        await engine.close()
        assert await asyncio.gather(*tasks) == ["EngineUnavailable"] * 6


async def test_abandoned_generators_free_the_gate() -> None:
    """A generator that is closed before it was ever read holds nothing."""
    async with hosted() as engine:
        for _ in range(10):
            async with aclosing(engine.generate(request())):
                pass
        assert engine.health().running == 0


PARENT = """
import asyncio
from dialogue.engine.process import ProcessEngine
from dialogue.engine.spec import EngineSpec

async def main():
    engine = ProcessEngine(EngineSpec("scripted", {}))
    await engine.start()
    print(engine.child_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_child_dies_with_its_parent() -> None:
    """When the bot is killed, its engine does not stay behind."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(next(line for line in parent.stdout if line.strip().isdigit())))
        parent.kill()
        child.wait(PATIENT_S)


def test_the_child_ends_with_its_connection() -> None:
    """A child whose supervisor closed the connection ends, also on systems that do not tell of a parent's death."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "dialogue.engine.child", str(theirs.fileno()), str(os.getpid())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as child:
        theirs.close()
        ours.close()
        assert child.wait(PATIENT_S) == 0
