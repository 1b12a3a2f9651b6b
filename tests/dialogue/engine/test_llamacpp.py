"""Promises of the embedded llama.cpp beyond the contract of every engine: its port, its memory of conversations, its adapters."""

import asyncio
import random
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import httpx2
import pytest

from dialogue.engine import llama_slots
from dialogue.engine.base import AdapterRef, FinishReason, GenerationEvent, GenerationRequest, TextDelta
from dialogue.engine.llama_server import BATCH_TOKENS, LlamaServer
from dialogue.engine.llamacpp import LlamaCppEngine
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.models import load_tokenizer
from dialogue.errors import EngineError, EngineUnavailable
from tests.dialogue.engine.llamacpp_scene import GREEDY, ask, opened, tiny_adapter, tiny_files
from tests.fakes.tiny_tokenizers import tiny_tokenizer
from tests.fakes.vocabulary_gguf import write_vocabulary_gguf
from tests.model_fixtures import default_model
from tests.sizes import record_proof, size

ENDPOINTS = [
    ("GET", "/"),
    ("GET", "/index.html"),
    ("GET", "/props"),
    ("POST", "/props"),
    ("GET", "/slots"),
    ("POST", "/slots/0?action=erase"),
    ("POST", "/slots/0?action=save"),
    ("GET", "/metrics"),
    ("GET", "/models"),
    ("GET", "/v1/models"),
    ("GET", "/api/tags"),
    ("GET", "/tools"),
    ("GET", "/cors-proxy?url=http://127.0.0.1/"),
    ("POST", "/completion"),
    ("POST", "/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/responses"),
    ("POST", "/api/chat"),
    ("POST", "/infill"),
    ("POST", "/embedding"),
    ("POST", "/v1/embeddings"),
    ("POST", "/rerank"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/apply-template"),
    ("GET", "/lora-adapters"),
    ("POST", "/lora-adapters"),
    ("POST", "/models/load"),
]


@pytest.fixture
def tiny(tmp_path: Path) -> ModelFiles:
    return tiny_files(tmp_path)


def tokens(seed: int, count: int) -> tuple[int, ...]:
    """Random ids of the tiny model."""
    return tuple(random.Random(seed).choices(range(1, 256), k=count))


def server_of(engine: LlamaCppEngine) -> LlamaServer:
    assert engine._runtime is not None
    return engine._runtime.server


async def test_the_port_asks_for_the_key(tiny: ModelFiles, tmp_path: Path) -> None:
    """HTTP on the loopback port without the right key is refused on every path; only the liveness page says "ok"."""
    async with (
        opened(tiny, cache_dir=tmp_path) as engine,
        httpx2.AsyncClient(base_url=server_of(engine).address, trust_env=False) as client,
    ):
        prompt = {"prompt": "t1", "n_predict": 1, "messages": [{"role": "user", "content": "t1"}], "content": "t1", "tokens": [1]}
        for method, path in ENDPOINTS:
            for headers in ({"X-Other": ""}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": "wrong"}):
                answer = await client.request(method, path, headers=headers, json=prompt if method == "POST" else None)
                assert answer.status_code in {401, 404}, (method, path, answer.text)
                assert "t1" not in answer.text
        health = await client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok"})
        assert client.base_url.host == "127.0.0.1"


async def test_what_the_key_opens(tiny: ModelFiles, tmp_path: Path) -> None:
    """Even with the key nobody reads prompts out of the slots or writes them to a disk."""
    async with opened(tiny, cache_dir=tmp_path) as engine:
        await ask(engine, tokens(1, 20))
        server = server_of(engine)
        headers = {"Authorization": f"Bearer {server.api_key}"}
        async with httpx2.AsyncClient(base_url=server.address, headers=headers, trust_env=False) as client:
            assert (await client.get("/slots")).status_code == 501
            assert (await client.get("/metrics")).status_code == 501
            assert (await client.post("/slots/0?action=save", json={"filename": "x.bin"})).status_code >= 400


async def test_each_engine_has_its_own_key(tiny: ModelFiles, tmp_path: Path) -> None:
    """Keys are random and long."""
    keys: set[str] = set()
    for _ in range(2):
        async with opened(tiny, cache_dir=tmp_path) as engine:
            keys.add(server_of(engine).api_key)
    assert len(keys) == 2
    assert min(map(len, keys)) >= 40


async def test_stdout_stays_clean(tiny: ModelFiles, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """llama.cpp writes nothing to stdout, and to stderr only what went wrong."""
    async with opened(tiny, cache_dir=tmp_path) as engine:
        await ask(engine, tokens(1, 20))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


async def test_signals_stay_ours(tiny: ModelFiles, tmp_path: Path) -> None:
    """Loading a model leaves the process's signal handlers as they were: llama.cpp would end its own loop."""
    caught = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, caught.set)
    try:
        async with opened(tiny, cache_dir=tmp_path) as engine:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(caught.wait(), 5)
            assert (await ask(engine, tokens(1, 20))).text
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_closing_right_after_the_start(tiny: ModelFiles, tmp_path: Path) -> None:
    """A server that is freed at once does not wait for itself for ever."""
    for _ in range(5):
        async with asyncio.timeout(20), opened(tiny, cache_dir=tmp_path):
            pass


async def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A broken file ends in EngineUnavailable with its path."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    files = ModelFiles("broken", broken, "0" * 64, tmp_path, "", 64, "llama", "broken")
    with pytest.raises(EngineUnavailable, match=r"cannot load .*broken\.gguf"):
        async with opened(files, cache_dir=tmp_path):
            pass


async def test_the_models_template_is_not_read(tmp_path: Path) -> None:
    """A model whose template llama.cpp cannot read answers all the same: templates are Kefu's business."""
    path = write_vocabulary_gguf(tiny_tokenizer("smollm"), tmp_path / "odd.gguf", pre="smollm", template="{% for %}")
    files = ModelFiles("odd", path, "0" * 64, tmp_path, "", 64, "llama", "odd")
    async with opened(files, cache_dir=tmp_path, context_tokens=64) as engine:
        assert (await ask(engine, (1, 2, 3), max_tokens=4)).finished.completion_tokens == 4


async def test_a_prompt_that_is_none(tiny: ModelFiles, tmp_path: Path) -> None:
    """Ids that the model does not have are refused, and the engine goes on."""
    async with opened(tiny, cache_dir=tmp_path) as engine:
        for prompt in ((), (10**6,), (-1,)):
            with pytest.raises(EngineError, match="refuses the request"):
                await ask(engine, prompt)
        assert (await ask(engine, tokens(1, 20))).text
        assert engine.health().running == 0


async def test_the_context_is_each_slots_own(tiny: ModelFiles, tmp_path: Path) -> None:
    """Every slot has the whole context, all at the same time."""
    async with opened(tiny, cache_dir=tmp_path, context_tokens=512, slots=4) as engine:
        replies = await asyncio.gather(*(ask(engine, tokens(seed, 400), max_tokens=1000) for seed in range(4)))
        assert [reply.finished.completion_tokens for reply in replies] == [112] * 4
        assert {reply.finished.reason for reply in replies} == {FinishReason.LENGTH}


async def test_a_conversation_is_not_computed_again(tiny: ModelFiles, tmp_path: Path) -> None:
    """At its second turn a conversation computes nothing of what it had at its first, its own answer included."""
    async with opened(tiny, cache_dir=tmp_path) as engine:
        first = tokens(1, 300)
        reply = await ask(engine, first, "a")
        said = tuple(int(word) for word in reply.text.split("t")[1:])
        second = await ask(engine, (*first, *said, *tokens(2, 30)), "a")
        assert second.finished.cached_tokens >= len(first) + len(said) - 1


async def test_more_conversations_than_slots(tiny: ModelFiles, tmp_path: Path) -> None:
    """A conversation that lost its slot to others comes back from the RAM cache, whatever they had in common."""
    async with opened(tiny, cache_dir=tmp_path, slots=4) as engine:
        common = tokens(0, 100)
        prompts = {str(number): (*common, *tokens(1 + number, 150)) for number in range(7)}
        for _ in range(3):
            for key, prompt in prompts.items():
                before = len(prompt)
                cached = (await ask(engine, prompt, key)).finished.cached_tokens
                prompts[key] = (*prompt, *tokens(before, 40))
                assert cached in {0, len(common)} if before == 250 else cached >= before - 40, (key, before, cached)


async def test_the_default_model_remembers(tmp_path: Path) -> None:
    """With the default model too: the whole old prompt at turn two, and again after six other conversations on four slots."""
    tokenizer = load_tokenizer(default_model())
    async with opened(cache_dir=tmp_path, context_tokens=1024, slots=4) as engine:
        system = tokenizer.encode("You are a helpful assistant of a small shop. " * 4)
        first = (*system, *tokenizer.encode("Which tea do you have, and what does it cost? " * 3))
        await ask(engine, first, "a", max_tokens=4)
        second = (*first, *tokenizer.encode("And coffee?"))
        assert (await ask(engine, second, "a", max_tokens=4)).finished.cached_tokens >= len(first)
        for number in range(6):
            await ask(
                engine,
                (*system, *tokenizer.encode(f"I am customer {number} and ask for the price of {number} cups. " * 2)),
                str(number),
                max_tokens=1,
            )
        third = (*second, *tokenizer.encode("Thank you, and cake?"))
        assert (await ask(engine, third, "a", max_tokens=4)).finished.cached_tokens >= len(second)


async def test_seeds(tiny: ModelFiles, tmp_path: Path) -> None:
    """A seed gives the same text each time, another one another text; the largest means no chance either."""
    async with opened(tiny, cache_dir=tmp_path) as engine:

        async def text(seed: int) -> str:
            return (await ask(engine, tokens(1, 30), temperature=1.5, top_k=0, seed=seed)).text

        for seed in (0, 7, 2**32 - 1, 2**40 + 3):
            assert await text(seed) == await text(seed)
        assert len({await text(seed) for seed in range(5)}) > 1


async def first_delta(events: AsyncGenerator[GenerationEvent, None]) -> None:
    async for event in events:
        if isinstance(event, TextDelta):
            return


async def test_cancelling_in_the_middle_of_a_long_prompt(tmp_path: Path) -> None:
    """A prompt that takes long is given up at its next batch: the slot is free, the rest is never computed."""
    tokenizer = load_tokenizer(default_model())
    prompt = tuple(tokenizer.encode("The sea is wide and the mountains are high. " * 200))[:2000]
    async with opened(cache_dir=tmp_path, slots=1) as engine:
        request = GenerationRequest("r", prompt, replace(GREEDY, max_tokens=1), cache_key="a")
        reading = asyncio.create_task(first_delta(engine.generate(request)))
        while not engine.health().running:  # noqa: ASYNC110 - health() is a snapshot: there is no event to wait for
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait({reading})
        assert engine.health().running == 0
        again = await ask(engine, prompt[:1000], "a", max_tokens=1)
        assert again.finished.cached_tokens <= 3 * BATCH_TOKENS


async def test_cancels_leave_nothing_behind(tiny: ModelFiles, tmp_path: Path) -> None:
    """After many cancels at random moments every slot is free, none takes a second, and answers are still right."""
    count, dice = size("llamacpp_cancels", small=24, proof=1_000), random.Random(11)
    slowest = 0.0
    async with opened(tiny, cache_dir=tmp_path, slots=3) as engine:
        right = await ask(engine, tokens(1, 100))

        async def cancel_one(number: int) -> float:
            request = GenerationRequest(
                str(number), tokens(number, dice.randrange(10, 1500)), replace(GREEDY, max_tokens=400), cache_key=str(number % 5)
            )
            async with aclosing(engine.generate(request)) as events:
                for _ in range(dice.randrange(0, 30)):
                    await anext(events, None)
                begun = asyncio.get_running_loop().time()
            return asyncio.get_running_loop().time() - begun

        for start in range(0, count, 6):
            slowest = max(slowest, *await asyncio.gather(*(cancel_one(number) for number in range(start, start + 6))))
        assert engine.health().running == engine.health().waiting == 0
        replies = await asyncio.gather(*(ask(engine, tokens(1, 100)) for _ in range(3)))
        assert {reply.text for reply in replies} == {right.text}
    assert slowest < 1.0
    record_proof("llamacpp_cancels", seed=11, size=count, result=f"all slots free; slowest {slowest * 1000:.0f} ms")


async def replay(engine: LlamaCppEngine, steps: int, seed: int, names: list[str | None]) -> list[tuple[tuple[int, ...], str | None, str]]:
    """Play conversations with changing adapters; return each prompt with its adapter and what was said."""
    dice = random.Random(seed)
    history = {number: (*tokens(0, 60), *tokens(number + 1, 60)) for number in range(5)}
    said: list[tuple[tuple[int, ...], str | None, str]] = []
    for _ in range(steps):
        number, adapter = dice.randrange(5), dice.choice(names)
        history[number] += tokens(dice.randrange(1000), dice.choice([5, 40, 150]))
        if len(history[number]) > 1500:
            history[number] = history[number][:120]
        reply = await ask(engine, history[number], str(number), adapter, max_tokens=dice.choice([4, 40, 160]))
        said.append((history[number], adapter, reply.text))
    return said


async def differing(folder: Path, tiny: ModelFiles, steps: int) -> int:
    """Return how often a reply among changing adapters differs from that of an engine that starts from nothing."""
    adapters = [tiny_adapter(folder, tiny, "new", 1), tiny_adapter(folder, tiny, "old", 2)]
    async with opened(tiny, cache_dir=folder, adapters=adapters, slots=2) as engine:
        said = await replay(engine, steps, 3, ["new", "old", None])
    wrong = 0
    async with opened(tiny, cache_dir=folder, adapters=adapters, slots=1) as engine:
        for prompt, adapter, text in said:
            engine_slot = server_of(engine)
            await asyncio.to_thread(engine_slot.erase, 0)
            fresh = await ask(engine, prompt, adapter=adapter, max_tokens=4)
            wrong += not text.startswith(fresh.text)
    return wrong


async def test_adapters_do_not_mix(tiny: ModelFiles, tmp_path: Path) -> None:
    """Whoever computed a conversation before, an answer is its adapter's own."""
    steps = size("llamacpp_adapters", small=40, proof=600)
    assert await differing(tmp_path, tiny, steps) == 0
    record_proof("llamacpp_adapters", seed=3, size=steps, result="0 replies of another adapter's state")


async def test_adapters_would_mix(tiny: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: without erasing, llama.cpp's RAM cache gives one adapter what another one computed."""
    monkeypatch.setattr(llama_slots.SlotTable, "_must_erase", Mock(return_value=False))
    assert await differing(tmp_path, tiny, 40) > 0


async def test_an_adapter_by_request(tiny: ModelFiles, tmp_path: Path) -> None:
    """Each request says its adapter; scale 0 is the base model."""
    adapters = [tiny_adapter(tmp_path, tiny, "one", 1), tiny_adapter(tmp_path, tiny, "two", 2)]
    adapters.append(AdapterRef("none", adapters[0].path, scale=0.0))
    async with opened(tiny, cache_dir=tmp_path, adapters=adapters) as engine:
        names = ["one", "two", "none", None]
        one, two, none, base = [reply.text for reply in await asyncio.gather(*(ask(engine, tokens(1, 50), adapter=name) for name in names))]
        assert none == base
        assert len({one, two, base}) == 3
