"""Promotion and rollback beside a `kefu run` that answers all the time: the real program, llama.cpp and the default model."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bot.control import call
from dialogue.engine.lora_gguf import read_base_facts
from tests.bot.adapter_scene import verdict_of
from tests.bot.cli.program import Program, make_program
from tests.bot.cli.test_programs import Server
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.model_fixtures import default_model, model_cache
from tests.sizes import record_proof, size

ASKERS = 2


@dataclass
class Running:
    """A serving program, and what became of the questions that it is asked."""

    program: Program
    socket: Path
    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    waits_s: list[float] = field(default_factory=list[float])

    async def ask(self) -> dict[str, Any]:
        """Ask one question and remember its answer."""
        answer = await call(self.socket, "ask", text="How are you?")
        self.answers.append(answer)
        return answer

    async def change(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Run an operation of the adapters, and measure the wait until a new turn has its result."""
        begun = time.monotonic()
        changed = await call(self.socket, f"adapters.{operation}", **arguments)
        adapter = (await self.ask())["adapter"]
        self.waits_s.append(time.monotonic() - begun)
        assert adapter == (changed["release"]["id"] if changed["release"] else "")
        return changed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One program for all tests of this file."""
    default_model()
    settings = {"KEFU_PATHS__CACHE_DIR": str(model_cache()), "KEFU_HTTP__PORT": "0"}
    small = {
        "KEFU_ACCESS__MESSAGES_PER_MINUTE": "0",
        "KEFU_MODEL__CONTEXT_TOKENS": "512",
        "KEFU_ENGINE__CACHE_RAM_MIB": "16",
        "KEFU_DIALOGUE__MAX_REPLY_TOKENS": "4",
    }
    program = make_program(tmp_path_factory.mktemp("promotion"), **settings, **small)
    (program.folder / "kefu.toml").write_text('[model]\nadapter = ""\n', encoding="utf-8")  # whatever ships is no part of this
    server = Server(program)
    try:
        server.wait_for("app.ready")
        yield Running(program, program.data_dir / "kefu.db.sock")
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def make_run(program: Program, name: str, seed: int) -> Path:
    """Write a training run whose adapter changes every answer a little."""
    model = default_model()
    facts = read_base_facts(model.path, model.sha256, model_cache())
    tensors = random_tensors(facts, EVERY_PROJECTION, 2, seed, strength=0.05)
    run = program.folder / name
    adapter = write_adapter(run / "adapter", facts, targets=EVERY_PROJECTION, rank=2, tensors=tensors)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "verdict.json").write_text(verdict_of(adapter), encoding="utf-8")
    return run


def register(program: Program, name: str, seed: int) -> str:
    """Import an adapter beside the running program; return the release's id."""
    ended = program.call("adapters", "import", str(make_run(program, name, seed)), "--json")
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)["id"]


@asynccontextmanager
async def kept_busy(ask: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Let people ask all the time."""
    over = asyncio.Event()

    async def person() -> None:
        while not over.is_set():
            await ask()

    async with asyncio.TaskGroup() as people:
        for _ in range(ASKERS):
            people.create_task(person())
        try:
            yield
        finally:
            over.set()


def test_promotion_and_rollback_lose_no_turn(running: Running) -> None:
    """While people ask without a pause, each change is followed at once, and every question gets its answer."""
    rounds = size("promotion_rounds", small=0, proof=20)
    first, second = (register(running.program, name, seed) for seed, name in enumerate(("first", "second"), start=1))
    asyncio.run(change_all_the_time(running, first, second, rounds))
    answered = [answer for answer in running.answers if answer["status"] == "answered"]
    assert len(answered) == len(running.answers)
    assert {answer["adapter"] for answer in answered} == {"", first, *([second] if rounds else [])}
    told = f"{len(answered)} of {len(running.answers)} questions answered during {len(running.waits_s)} changes"
    slowest = f"the slowest was followed by an answer of the new one after {max(running.waits_s):.1f} s"
    record_proof("promotion_rounds", seed=1, size=rounds, result=f"{told}; {slowest}")


async def change_all_the_time(running: Running, first: str, second: str, rounds: int) -> None:
    """Promote and roll back while people ask; in each round back and forth between two releases and the base model."""
    async with kept_busy(running.ask):
        await running.ask()
        await running.change("promote", id=first)
        await running.change("rollback", to_base=True)
        for number in range(rounds):
            await running.change("activate", id=first)
            await running.change("activate" if number else "promote", id=second)
            assert (await running.change("rollback"))["release"]["id"] == first
            await running.change("activate", id=second)
            await running.change("rollback", to_base=True)


def test_what_cannot_be_loaded_serves_nobody(running: Running) -> None:
    """A release that was damaged behind Kefu's back is refused; the one before goes on answering, and list and doctor say so."""
    good, bad = register(running.program, "good", 3), register(running.program, "bad", 4)
    asyncio.run(running.change("promote", id=good))
    weights = running.program.data_dir / "adapters" / bad / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused = running.program.call("adapters", "promote", bad)
    assert (refused.code, "cannot be served" in refused.stderr) == (1, True)
    assert asyncio.run(running.ask())["adapter"] == good
    assert f"The running Kefu answers with good ({good})." in running.program.call("adapters", "list").stderr
    (finding,) = [one for one in json.loads(running.program.call("doctor", "--json").stdout)["findings"] if one["check"] == "adapter"]
    assert (finding["status"], "good" in finding["message"]) == ("ok", True)


def test_a_comparison_is_not_answered_by_the_adapter(running: Running) -> None:
    """`ask --no-adapter` beside a running Kefu, which answers with its own adapter, says so instead of answering."""
    compared = running.program.call("ask", "hello", "--no-adapter")
    assert (compared.code, compared.stdout, "Stop it first" in compared.stderr) == (75, "", True)
