"""The engine bench: what it counts, and that it runs whole."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dialogue.config import RemoteConfig
from dialogue.engine.base import Engine
from dialogue.engine.bench.arms import RawSettings, raw_arm
from dialogue.engine.bench.engine_bench import OURS, RAW, BenchSize, fitted, run_bench, run_rounds, summary
from dialogue.engine.bench.workload import USER_TEXTS, Arm, Ids, Round, Sample, Workload, run_round
from dialogue.engine.remote import RemoteEngine
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import EngineUnavailable
from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_gguf import story_prompt, story_teller, write_tiny_gguf

TINY = BenchSize(Workload(users=2, turns=3, reply_tokens=8), seconds=30.0, most_rounds=2)


def sample(ttft_ms: float, total_ms: float, tokens: int = 11) -> Sample:
    return Sample(ttft_ms, total_ms, tokens, "text", 30, 20)


def render(texts: Sequence[str]) -> Ids:
    """A prompt of bytes, short enough for the tiny model."""
    return story_prompt("\n".join(texts)[-1500:])


def test_rates_of_a_round() -> None:
    """Tokens a second count the prompts in, and users beside one another; the decoding rate counts neither."""
    taken = Round(((sample(100, 1100), sample(200, 1200)), (sample(50, 1050), sample(50, 800))))
    assert taken.tokens_per_s == pytest.approx(44 / 2.25)
    assert taken.decode_tokens_per_s == pytest.approx(40 / 3.75)
    assert (taken.ttft_ms(1), taken.ttft_ms(2)) == (150, 50)


def test_ratios_compare_rounds_that_stood_side_by_side() -> None:
    """A machine that gets twice as slow in the middle does not change the ratio; an arm that is slower does."""
    ours = [Round(((sample(10, slow * 1000),),)) for slow in (1, 1, 2)]
    raw = [Round(((sample(5, slow * 500),),)) for slow in (1, 1, 2)]
    result = summary({OURS: ours, RAW: raw}, Workload(turns=1))
    assert result["ours_over_raw"]["tokens_per_s"] == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert result["ours_over_raw"]["ttft_turn_1"]["median"] == 2
    assert result["arms"][OURS]["tokens_per_s"]["max"] == 11


class Parrot:
    """An arm that remembers its prompts."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[Ids, ...]]] = []

    async def answer(self, conversations: Sequence[str], prompts: Sequence[Ids], reply_tokens: int) -> list[Sample]:
        self.asked.append((tuple(conversations), tuple(prompts)))
        return [Sample(1, 2, reply_tokens, "fine", len(prompt), 0) for prompt in prompts]


async def test_prompts_grow() -> None:
    """Each turn's prompt begins with the last one, reply included; rounds and users begin differently."""
    arm = Parrot()
    for name in ("round 1", "round 2"):
        await run_round(arm, _bytes_of, Workload(users=2, turns=3), name)
    first, second, third = (bytes(prompts[0]).decode() for _, prompts in arm.asked[:3])
    assert second.startswith(first + "\nfine\n")
    assert third.startswith(second)
    assert third.endswith(USER_TEXTS[2])
    starts = {bytes(prompt).decode().partition(":")[0] for _, prompts in arm.asked for prompt in prompts}
    assert starts == {"round 1-0", "round 1-1", "round 2-0", "round 2-1"}


async def test_a_whole_bench(tmp_path: Path) -> None:
    """Both arms run the same work on the same model, say the same, and the result is one JSON object."""
    model = write_tiny_gguf(story_teller(), tmp_path / "model.gguf")
    lines: list[str] = []
    with llama_server(model, slots=2, context=2048) as server:
        engine = RemoteEngine(RemoteConfig((server.url,), "tiny", server.api_key))
        result = await run_bench(engine, RawSettings(str(model), 2048, 2, 1, 0), render, TINY, lines.append)
    assert result["rounds"] == 2
    assert result["same_texts"]
    assert result["arms"][OURS]["cached_tokens_last"] > 0
    assert result["arms"][RAW]["cached_tokens_last"] > 0
    assert result["ours_over_raw"]["tokens_per_s"]["median"] > 0
    assert json.loads(json.dumps(result)) == result
    assert any(line.startswith("ttft_turn_3_ms") for line in lines)


async def test_a_slow_machine_gets_shorter_replies() -> None:
    """Where time is short, replies get shorter and one round of each arm is the least."""
    arms: dict[str, Arm] = {OURS: Parrot(), RAW: Parrot()}
    size = await fitted(arms, _bytes_of, BenchSize(Workload(turns=8, reply_tokens=24), seconds=0.032, most_rounds=8))
    assert size.workload.reply_tokens == 12
    rounds = await run_rounds(arms, _bytes_of, replace(size, seconds=0.0), _silent)
    assert {name: len(taken) for name, taken in rounds.items()} == {OURS: 1, RAW: 1}


def _bytes_of(texts: Sequence[str]) -> Ids:
    return tuple("\n".join(texts).encode())


async def test_the_engine_is_closed_when_the_raw_library_fails(tmp_path: Path) -> None:
    """A model that the raw library cannot load ends the bench with a sentence, and closes the engine."""
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    engine: Engine = ScriptedEngine()
    with pytest.raises(EngineUnavailable, match="raw library"):
        await run_bench(engine, RawSettings(str(tmp_path / "broken.gguf"), 512, 1, 1, 0), render, TINY, _silent)
    with pytest.raises(EngineUnavailable):
        await engine.start()


def _silent(_: str) -> None:
    """Print nothing."""


async def test_the_raw_child_ends_with_its_block(tmp_path: Path) -> None:
    """The raw library's process does not outlive the bench."""
    model = write_tiny_gguf(story_teller(), tmp_path / "model.gguf")
    async with raw_arm(RawSettings(str(model), 512, 1, 1, 0)) as arm:
        assert (await arm.answer(["a"], [story_prompt("hello")], 5))[0].tokens == 5
    with pytest.raises((EngineUnavailable, ConnectionError)):
        await arm.answer(["a"], [story_prompt("hello")], 5)
