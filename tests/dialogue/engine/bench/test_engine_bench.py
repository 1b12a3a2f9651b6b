"""The bench as a whole: processes, order, what is left out, and the JSON."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialogue.config import EngineConfig
from dialogue.engine.base import AdapterRef
from dialogue.engine.bench import arm_table
from dialogue.engine.bench.arm_process import arm_process
from dialogue.engine.bench.arm_table import ARMS, BASE_ARMS, BY_NAME, ArmKind, chosen, lacking
from dialogue.engine.bench.engine_bench import Plan, Progress, run_bench, schedule
from dialogue.engine.bench.fleet import Terms, arm_settings
from dialogue.engine.bench.settings import ArmSettings
from dialogue.engine.bench.workload import ADAPTERS, SINGLE, WORKLOADS, Case, Conversation, Sizes, adapter_name
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import ConfigurationInvalid, EngineUnavailable
from tests.dialogue.engine.bench.pieces import BYTES

TINY = Sizes(users=(1, 2), prompt_tokens=32, reply_tokens=8, turns=2, chat_users=1, chat_tokens=4, think_s=0.0, long_tokens=64, adapters=2)
SCRIPTED = {"kind": "scripted"}
OURS = ArmKind("llamacpp", "scripted", "engine", "", engine=SCRIPTED)
RAW = ArmKind("raw", "scripted", "engine", "", engine=SCRIPTED)


def terms(folder: Path, **changes: Any) -> Terms:
    adapters = tuple(AdapterRef(adapter_name(number), str(folder)) for number in range(2))
    return replace(Terms(EngineConfig(cache_dir=folder, slots=2), adapters=adapters), **changes)


class Listener(Progress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0
        self.expected = 0

    def tell(self, text: str) -> None:
        self.lines.append(text)

    def total(self, steps: int) -> None:
        self.expected = steps

    def step(self) -> None:
        self.steps += 1


async def test_a_whole_bench(tmp_path: Path) -> None:
    """Every workload, two rounds, two arms in processes of their own: all figures are there, and the result is one JSON object."""
    listener = Listener()
    plan = Plan((OURS, RAW), TINY, rounds=2, bandwidth=lambda threads: threads * 1e9)
    result = await run_bench(plan, terms(tmp_path), BYTES, listener)
    assert list(result["cases"]) == ["single-1", "single-2", "multi-turn-1", "long-prefill-1", "adapters-2"]
    for case in result["cases"].values():
        assert {arm: figures["rounds"] for arm, figures in case["arms"].items()} == {"llamacpp": 2, "raw": 2}
        assert case["over"]["llamacpp/raw"]["same_texts"]
    assert result["cases"]["multi-turn-1"]["arms"]["raw"]["prefix_hit_rate"]["median"] > 0
    assert result["cases"]["long-prefill-1"]["arms"]["raw"]["long_ttft_ms"]["median"] > 0
    assert result["peak_memory"]["llamacpp"]["peak_memory_mib"] > 10
    assert result["copy_bandwidth_bytes_per_s"]["median"] > 0
    assert (result["rounds"], result["failed"], result["skipped"]) == (2, {}, {})
    assert listener.steps == listener.expected == 20
    assert json.loads(json.dumps(result))["about"]["raw"]["engine"] == "scripted"


async def test_an_arm_that_fails_is_left_out(tmp_path: Path) -> None:
    """The others are measured, and the result says why it is missing; one process at a time is a way to run, too."""
    broken = ArmKind("raw", "no such engine", "engine", "", engine={"kind": "nonsense"})
    listener = Listener()
    plan = Plan((OURS, broken), replace(TINY, workloads=(SINGLE,)), rounds=1, apart=True, bandwidth=float)
    result = await run_bench(plan, terms(tmp_path), BYTES, listener)
    assert "no engine 'nonsense'" in result["failed"]["raw"]
    assert list(result["cases"]["single-1"]["arms"]) == ["llamacpp"]
    assert sum("raw failed" in line for line in listener.lines) == 1


async def test_nothing_to_measure(tmp_path: Path) -> None:
    """Where no arm can be measured, or every one fails, the bench ends with a sentence."""
    sizes = replace(TINY, workloads=(SINGLE,), users=(1,))
    with pytest.raises(EngineUnavailable, match="No arm"):
        await run_bench(Plan((BY_NAME["url"],), sizes), terms(tmp_path), BYTES)
    with pytest.raises(EngineUnavailable, match="Every arm failed"):
        await run_bench(Plan((replace(OURS, engine={"kind": "nonsense"}),), sizes, bandwidth=float), terms(tmp_path), BYTES)


async def test_requests_that_are_too_long(tmp_path: Path) -> None:
    """What does not fit the model is said before anything is started."""
    files = replace(GGUF, context_tokens=64)
    with pytest.raises(ConfigurationInvalid, match="made for 64"):
        await run_bench(Plan((OURS,), TINY), terms(tmp_path, files=files), BYTES)


async def test_a_short_time(tmp_path: Path) -> None:
    """Where time is short, replies get shorter and one round is the least."""
    plan = Plan((OURS,), replace(TINY, workloads=(SINGLE,), users=(1,)), rounds=5, seconds=1e-9, bandwidth=float)
    result = await run_bench(plan, terms(tmp_path), BYTES)
    assert (result["rounds"], result["sizes"]["reply_tokens"]) == (1, 4)


async def test_a_process_that_dies_is_noticed(tmp_path: Path) -> None:
    """An arm whose process is killed, as the kernel does when memory is short, is an error and no endless wait."""
    settings = ArmSettings("engine", EngineConfig(cache_dir=tmp_path, kind="scripted"))
    async with arm_process(settings) as process:
        await process.run([Conversation("a", (1, 2), 3)])
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineUnavailable, match="its process ended"):
            await process.run([Conversation("a", (1, 2), 3)])


async def test_leaving_kills_a_process_that_is_busy(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a run does not wait for its end."""
    settings = ArmSettings("engine", EngineConfig(cache_dir=tmp_path, kind="scripted"))
    async with arm_process(settings) as process:
        running = asyncio.ensure_future(process.run([Conversation("a", (1, 2), 3, start_s=3600.0)]))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def names(pairs: Any) -> list[str]:
    return [f"{kind.name} {case.name}" for kind, case in pairs]


def test_the_order_changes_from_round_to_round() -> None:
    """Arms stand side by side on each case, in turn first and last; apart, each arm has its cases in one go, adapters last."""
    arms, every = (OURS, RAW), (Case(ADAPTERS, 2), Case(SINGLE, 1))
    assert names(schedule(arms, every, 0, apart=False)) == ["llamacpp adapters-2", "raw adapters-2", "llamacpp single-1", "raw single-1"]
    assert names(schedule(arms, every, 1, apart=False)) == ["raw adapters-2", "llamacpp adapters-2", "raw single-1", "llamacpp single-1"]
    assert names(schedule(arms, every, 0, apart=True)) == ["llamacpp single-1", "llamacpp adapters-2", "raw single-1", "raw adapters-2"]
    assert names(schedule((BY_NAME["continuous"],), every, 0, apart=False)) == ["continuous single-1"]


def test_arms_are_chosen_by_name() -> None:
    """In the table's order, all at once, or not at all."""
    assert [kind.name for kind in chosen(["raw", "generate"])] == ["generate", "raw"]
    assert chosen(["all"]) == ARMS
    with pytest.raises(ConfigurationInvalid, match="nonsense"):
        chosen(["raw", "nonsense"])


GGUF = ModelFiles("tiny", Path("tiny.gguf"), "", Path("tokenizer.json"), "", 2048, "llama", "tiny")


@pytest.mark.parametrize(
    ("name", "files", "libraries", "said"),
    [
        ("generate", GGUF, (), "pip install 'kefu[torch]'"),
        ("local", GGUF, ("torch", "transformers"), "peft"),
        ("raw", replace(GGUF, path=Path(__file__).parent), (), "GGUF"),
        ("url", GGUF, (), "--url"),
        ("generate", None, ("torch", "transformers", "peft"), "--model"),
    ],
)
def test_what_an_arm_lacks_is_a_sentence(name: str, files: ModelFiles | None, libraries: Sequence[str], said: str) -> None:
    """Torch that is not installed, a folder in the place of a GGUF file, a server that nobody named: each says what to do."""
    assert said in lacking(BY_NAME[name], files, "", has=lambda library: library in libraries)


@pytest.mark.parametrize("here", [True, False])
def test_parts_of_a_gpu_are_measured_on_one(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    """Recorded and overlapped steps are left out without a CUDA device, and the reason says so."""
    monkeypatch.setattr(arm_table, "has_cuda", lambda: here)
    said = lacking(BY_NAME["local-no-graphs"], GGUF, "", has=lambda _: True)
    assert ("CUDA" in said, bool(said)) == (not here, not here)


def test_the_base_install_has_its_arms() -> None:
    """Without torch the default arms are measured."""
    assert all(lacking(BY_NAME[name], GGUF, "", has=lambda _: False) == "" for name in BASE_ARMS)


@pytest.mark.parametrize("kind", ARMS, ids=lambda kind: kind.name)
def test_what_an_arm_is_told(tmp_path: Path, kind: ArmKind) -> None:
    """Everybody gets the same terms; adapters only where they are measured, and a key only the server's own arm."""
    given = terms(tmp_path, files=GGUF, url="http://server", url_key="secret")
    settings = arm_settings(kind, given, adapters=False)
    assert (settings.engine.slots, settings.adapters) == (2, ())
    assert settings.engine.remote is None
    assert (settings.options.get("api_key") == "secret") == (kind.name == "url")
    assert set(kind.workloads) <= set(WORKLOADS)
    with_adapters = arm_settings(kind, given, adapters=True)
    assert len(with_adapters.adapters) == (kind.adapters or 2)
    assert with_adapters.options.get("adapter") == ("bench-0" if kind.adapters else None)
