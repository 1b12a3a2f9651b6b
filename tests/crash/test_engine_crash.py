"""The engine's child is killed, hung or out of memory in the middle of streams: every request is answered all the same.

Add an engine to ARMS and it goes through the same; only what it hosts differs.
"""

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest

from dialogue.config import EngineConfig
from dialogue.engine.base import GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.factory import llamacpp_spec
from dialogue.engine.models import load_tokenizer
from dialogue.engine.process import ProcessEngine, ProcessLimits
from dialogue.engine.spec import EngineSpec
from dialogue.engine.suspects import Suspects
from dialogue.errors import EngineError, EngineUnavailable, RequestPoisoned
from dialogue.tokenizer import Tokenizer
from tests.model_fixtures import default_model, model_cache
from tests.sizes import record_proof, size
from tests.waiting import until

ATTEMPTS = 3  # as the manager: the first one and two more under the same request id
ROUND_LIMIT_S = 60.0  # longer than this is "for ever"
BACK_WITHIN_S = 5.0  # from a kill to a child that is ready
HANG_TIMEOUT_S = 2.0
LIFE_WITHOUT_MEMORY_S = 0.5
SEED = 20

Harm = Callable[[ProcessEngine, int], Awaitable[None]]


async def kill(engine: ProcessEngine, _number: int) -> None:
    """As the kernel does when memory is short."""
    os.kill(engine.child_pid, signal.SIGKILL)


async def hang(engine: ProcessEngine, _number: int) -> None:
    """Nothing in the process moves any more, but it lives."""
    os.kill(engine.child_pid, signal.SIGSTOP)


@dataclass(frozen=True)
class Arm:
    """An engine that is to survive."""

    name: str
    spec: Callable[[int], EngineSpec]  # for so many rounds
    prompt: Callable[[int], tuple[int, ...]]  # another one for each number
    sampling: SamplingParams
    expected: Callable[[int], str] | None  # the whole answer to prompt(number); None = not known beforehand
    exhaust: Harm  # makes the child run out of memory
    small: int


@dataclass
class Tally:
    """What became of everything."""

    outcomes: list[str] = field(default_factory=list)  # "answered", or the name of a typed error
    wrong: list[str] = field(default_factory=list)  # answers that are not the expected ones
    slowest_restart_s: float = 0.0  # from a kill to a child that is ready
    deaths: int = 0


def scripted_spec(rounds: int) -> EngineSpec:
    """Echoes its prompt; dies of memory on requests of their own."""
    fault = {"kind": "out_of_memory", "request_ids": [f"glutton {number}" for number in range(rounds)]}
    return EngineSpec("scripted", {"slots": 3, "token_delay_s": 0.002, "faults": [fault]})


def scripted_prompt(number: int) -> tuple[int, ...]:
    return tuple((f"{number}, " * 40).encode())


def scripted_answer(number: int) -> str:
    return "You said: " + f"{number}, " * 40


async def feed_a_glutton(engine: ProcessEngine, number: int) -> None:
    """A request that allocates until there is no memory, each time it runs, until it may not run any more."""
    wanted = GenerationRequest(f"glutton {number}", (1,), SamplingParams(), deadline_s=ROUND_LIMIT_S)
    for _ in range(ATTEMPTS):
        with suppress(EngineUnavailable, RequestPoisoned):
            async for _ in engine.generate(wanted):
                pass


def llamacpp_spec_of_default_model(_rounds: int) -> EngineSpec:
    """llama.cpp with the default model."""
    config = EngineConfig(cache_dir=model_cache(), slots=3, context_tokens=1024, cache_ram_mib=0)
    return llamacpp_spec(config, default_model())


def llamacpp_prompt(number: int) -> tuple[int, ...]:
    return tuple(default_tokenizer().encode(f"The story of the {number} ships on the ocean begins"))


@cache
def default_tokenizer() -> Tokenizer:
    return load_tokenizer(default_model())


async def take_the_memory_away(engine: ProcessEngine, number: int) -> None:
    """The child may map no more memory while it gets another request. If it lives with that, it ends in the kernel's way."""
    pid = engine.child_pid
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.getpagesize(), resource.RLIM_INFINITY))
    prompt = tuple(default_tokenizer().encode("memory " * 300))
    wanted = GenerationRequest(f"glutton {number}", prompt, SamplingParams(max_tokens=4), deadline_s=ROUND_LIMIT_S)
    glutton = asyncio.create_task(_drain(engine, wanted))
    await asyncio.wait({glutton}, timeout=LIFE_WITHOUT_MEMORY_S)
    if engine.child_pid == pid:
        os.kill(pid, signal.SIGKILL)
    await glutton


async def _drain(engine: ProcessEngine, wanted: GenerationRequest) -> None:
    with suppress(EngineUnavailable):
        async for _ in engine.generate(wanted):
            pass


SCRIPTED = Arm("scripted", scripted_spec, scripted_prompt, SamplingParams(max_tokens=80), scripted_answer, feed_a_glutton, small=9)
LLAMACPP = Arm(
    "llamacpp",
    llamacpp_spec_of_default_model,
    llamacpp_prompt,
    SamplingParams(max_tokens=24, temperature=0, ignore_eos=True),
    None,
    take_the_memory_away,
    small=3,
)
ARMS = [SCRIPTED, LLAMACPP]


class Round:
    """Some requests at once, one blow at a random moment, and every request to its end."""

    def __init__(self, engine: ProcessEngine, arm: Arm, tally: Tally, chance: random.Random) -> None:
        self._engine = engine
        self._arm = arm
        self._tally = tally
        self._texts_left = chance.randrange(1, arm.sampling.max_tokens)  # until the blow
        self._moment = asyncio.Event()

    async def play(self, numbers: range, harm: Harm, number: int) -> None:
        tasks = [asyncio.create_task(self._ask(each)) for each in numbers]
        moment = asyncio.create_task(self._moment.wait())
        await asyncio.wait({moment, asyncio.gather(*tasks)}, return_when=asyncio.FIRST_COMPLETED)
        moment.cancel()
        back = asyncio.create_task(self._back(harm))
        await harm(self._engine, number)
        await asyncio.gather(back, *tasks)

    async def _back(self, harm: Harm) -> None:
        """Wait until another child is ready."""
        restarts, began = self._engine.health().restarts, time.monotonic()
        await until(lambda: self._engine.health().restarts > restarts and self._engine.health().ready, timeout_s=ROUND_LIMIT_S)
        if harm is kill:
            self._tally.slowest_restart_s = max(self._tally.slowest_restart_s, time.monotonic() - began)

    async def _ask(self, number: int) -> None:
        """Ask as the manager does: again under the same request id, as long as the engine was not there."""
        wanted = GenerationRequest(f"request {number}", self._arm.prompt(number), self._arm.sampling, deadline_s=ROUND_LIMIT_S)
        outcome = ""
        for _ in range(ATTEMPTS):
            try:
                text = await self._read(wanted)
            except EngineUnavailable as error:
                outcome = type(error).__name__
                continue
            except EngineError as error:
                outcome = type(error).__name__
                break
            outcome = "answered"
            if not text or (self._arm.expected is not None and text != self._arm.expected(number)):
                self._tally.wrong.append(text)
            break
        self._tally.outcomes.append(outcome)

    async def _read(self, wanted: GenerationRequest) -> str:
        text = ""
        async for event in self._engine.generate(wanted):
            if isinstance(event, TextDelta):
                text += event.text
                self._texts_left -= 1
                if self._texts_left <= 0:
                    self._moment.set()
        return text


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def survive(arm: Arm, rounds: int, harms: Sequence[Harm]) -> Tally:
    """Play the rounds, check that nothing is left behind, and return what became of the requests."""
    chance, tally, asked, open_before = random.Random(SEED), Tally(), 0, descriptors()
    engine = ProcessEngine(arm.spec(rounds), ProcessLimits(hang_timeout_s=HANG_TIMEOUT_S, backoff_s=(0.0, 0.05)))
    info = await engine.start()
    for number in range(rounds):
        numbers = range(asked, asked + chance.randint(1, info.slots))
        asked = numbers.stop
        async with asyncio.timeout(ROUND_LIMIT_S):
            await Round(engine, arm, tally, chance).play(numbers, harms[number % len(harms)], number)
    await until(lambda: engine.health().ready, timeout_s=ROUND_LIMIT_S)
    assert (engine.health().running, engine.health().waiting) == (0, 0)
    assert len(psutil.Process().children(recursive=True)) == 1, "a child too many, or a zombie"
    tally.deaths = engine.health().restarts
    await engine.close()
    assert psutil.Process().children(recursive=True) == []
    assert descriptors() <= open_before
    assert len(tally.outcomes) == asked
    return tally


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.timeout(3600)
async def test_every_request_is_answered(arm: Arm) -> None:
    """Killed, hung or out of memory in mid-stream, again and again: all requests are answered, and nothing is left behind."""
    rounds = size(f"engine_crash_{arm.name}", small=arm.small, proof=200)
    tally = await survive(arm, rounds, (kill, hang, arm.exhaust))
    assert set(tally.outcomes) == {"answered"}
    assert tally.wrong == []
    assert tally.deaths >= rounds
    assert tally.slowest_restart_s < BACK_WITHIN_S
    result = (
        f"{len(tally.outcomes)} requests answered over {tally.deaths} deaths; ready {tally.slowest_restart_s:.2f} s after a kill at worst"
    )
    record_proof(f"engine_crash_{arm.name}", seed=SEED, size=rounds, result=result)


async def test_the_proof_notices_unjust_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that tries suspects beside one another condemns innocent requests, and the proof above sees it."""
    monkeypatch.setattr(Suspects, "must_run_alone", _never)
    tally = await survive(SCRIPTED, 4, (feed_a_glutton,))
    assert "RequestPoisoned" in tally.outcomes


def _never(_suspects: Suspects, _request_id: str) -> bool:
    return False
