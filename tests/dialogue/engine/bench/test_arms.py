"""Each arm with a tiny model: it answers at the length that was asked, and tells when its text came."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialogue.config import EngineConfig
from dialogue.engine.bench.ablation_arm import build as build_ablation
from dialogue.engine.bench.continuous_arm import ContinuousArm
from dialogue.engine.bench.drive import hold
from dialogue.engine.bench.engine_arm import EngineArm
from dialogue.engine.bench.generate_arm import GenerateArm
from dialogue.engine.bench.random_adapters import write_adapters
from dialogue.engine.bench.raw_arm import build as build_raw
from dialogue.engine.bench.samples import UNKNOWN, Answer, Arm, Ask, Sample
from dialogue.engine.bench.settings import ArmSettings, load_codec
from dialogue.engine.bench.url_arm import UrlArm
from dialogue.engine.bench.workload import Conversation
from dialogue.engine.download import file_sha256
from dialogue.engine.factory import local_spec
from dialogue.engine.local.decoder import build as build_decoder
from dialogue.engine.model_files import ModelFiles, describe_folder
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import AdapterUnknown, EngineUnavailable
from tests.fakes.completion_server import begin_stream, completion_server, send_json
from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import story_prompt, story_teller, tiny_model, write_tiny_gguf

PROMPT = tuple(range(3, 30))
OTHER = tuple(range(40, 52))


def config(folder: Path, **changes: Any) -> EngineConfig:
    plain: dict[str, Any] = {"cache_dir": folder, "threads": 1, "slots": 2, "context_tokens": 256, "cache_ram_mib": 1}
    return EngineConfig(**plain | changes)


def folder_settings(folder: Path, **changes: Any) -> ArmSettings:
    """The tiny model as transformers has it."""
    files = describe_folder("tiny", write_tiny_decoder(tiny_model(), folder / "tiny"))
    return ArmSettings("", config(folder), files, **changes)


def gguf_settings(path: Path, folder: Path, **changes: Any) -> ArmSettings:
    """The same as llama.cpp has it; its tokenizer is not asked for here."""
    files = ModelFiles("tiny", path, file_sha256(path), folder / "tokenizer.json", "", 2048, "llama", "tiny")
    return ArmSettings("", config(folder), files, **changes)


@asynccontextmanager
async def started(arm: Arm) -> AsyncIterator[Arm]:
    try:
        await arm.start()
        yield arm
    finally:
        await arm.close()


def check(answer: Answer, tokens: int) -> None:
    """An answer of this length whose times make sense."""
    assert answer.tokens == tokens
    assert answer.text
    assert list(answer.arrivals) == sorted(answer.arrivals)
    assert answer.arrivals[-1] <= answer.ended


async def two(arm: Arm, adapter: str | None = None) -> list[Answer]:
    """Ask for two answers of different lengths at the same time."""
    asks = (Ask("a", 1, PROMPT, 9, adapter), Ask("b", 1, OTHER, 5, adapter))
    return list(await asyncio.gather(*(arm.answer(ask) for ask in asks)))


async def test_any_engine(tmp_path: Path) -> None:
    """An engine is asked through its protocol: its cache is seen, and an adapter that it lacks is an error."""
    engine = ScriptedEngine()
    async with started(EngineArm(engine)) as arm:
        check(await arm.answer(Ask("a", 1, PROMPT, 6)), 6)
        again = await arm.answer(Ask("a", 2, (*PROMPT, 1, 2), 6))
        assert again.cached_tokens == len(PROMPT)
        with pytest.raises(AdapterUnknown):
            await arm.answer(Ask("a", 3, PROMPT, 6, "bench-0"))
    with pytest.raises(EngineUnavailable):
        await engine.start()


async def test_the_engine_on_torch_beside_transformers(tmp_path: Path) -> None:
    """Kefu's engine, generate one by one, in a padded batch and continuous batching say the same, as long as each was asked."""
    settings = folder_settings(tmp_path)
    assert settings.files is not None
    local = EngineArm(build_decoder(local_spec(settings.engine, settings.files).arguments))
    said: list[list[str]] = []
    for arm in (local, GenerateArm(settings, 1), GenerateArm(settings, 2), ContinuousArm(settings)):
        async with started(arm):
            answers = await two(arm)
        check(answers[0], 9)
        check(answers[1], 5)
        said.append([answer.text for answer in answers])
    assert said[1] == said[2] == said[3]
    assert said[0] == said[1]


async def test_the_engine_on_torch_without_its_cache(tmp_path: Path) -> None:
    """Nothing of a turn is found at the next one, and the replies are the same."""
    settings = folder_settings(tmp_path)
    assert settings.files is not None
    local = EngineArm(build_decoder(local_spec(settings.engine, settings.files).arguments))
    talk = Conversation("a", PROMPT, 4, (OTHER,))
    runs: list[list[Sample]] = []
    for arm in (local, build_ablation(replace(settings, options={"without": "cache"}))):
        async with started(arm):
            runs.append(await hold(arm, [talk], load_codec(settings.files).encode))
    assert [sample.text for sample in runs[0]] == [sample.text for sample in runs[1]]
    assert runs[0][1].cached_tokens > 0
    assert runs[1][1].cached_tokens == 0


@pytest.mark.parametrize("width", [1, 2])
async def test_transformers_with_adapters(tmp_path: Path, width: int) -> None:
    """Requests that name different adapters are answered by them, one by one and in one batch; their history is never cached."""
    settings = folder_settings(tmp_path)
    assert settings.files is not None
    refs = write_adapters(2, settings.files, tmp_path / "adapters", tmp_path)
    async with started(GenerateArm(ArmSettings("", settings.engine, settings.files, refs), width)) as arm:
        answers = await two(arm, "bench-1")
        check(answers[0], 9)
        assert answers[0].cached_tokens == 0


async def test_a_failing_model_is_told_to_who_waits(tmp_path: Path) -> None:
    """An error inside transformers reaches those who asked, instead of leaving them waiting."""
    async with started(GenerateArm(folder_settings(tmp_path), 2)) as arm:
        with pytest.raises(IndexError):
            await arm.answer(Ask("a", 1, (10**6,), 5))
        check(await arm.answer(Ask("a", 2, PROMPT, 3)), 3)


async def test_the_raw_library(tmp_path: Path) -> None:
    """xllamacpp alone: exact lengths, and the prefix of a conversation is found again."""
    path = write_tiny_gguf(story_teller(), tmp_path / "model.gguf")
    async with started(build_raw(gguf_settings(path, tmp_path))) as arm:
        first = await arm.answer(Ask("a", 1, story_prompt("hello there", 1), 8))
        check(first, 8)
        again = await arm.answer(Ask("a", 2, (*story_prompt("hello there", 1), *story_prompt("x", 1)), 8))
        assert again.cached_tokens > 0


async def test_the_raw_library_with_adapters(tmp_path: Path) -> None:
    """Adapters are converted and each request names its own."""
    plain = gguf_settings(write_tiny_gguf(tiny_model(), tmp_path / "model.gguf"), tmp_path)
    assert plain.files is not None
    refs = write_adapters(2, plain.files, tmp_path / "adapters", tmp_path)
    async with started(build_raw(ArmSettings("", plain.engine, plain.files, refs))) as arm:
        check(await arm.answer(Ask("a", 1, PROMPT, 4, "bench-1")), 4)


async def test_the_raw_library_cannot_load_everything(tmp_path: Path) -> None:
    """A broken file is a sentence."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(EngineUnavailable, match="cannot load"):
        await build_raw(gguf_settings(path, tmp_path)).start()


async def test_a_server(tmp_path: Path) -> None:
    """A llama.cpp server is asked directly, token ids in; its key is sent along."""
    with llama_server(write_tiny_gguf(story_teller(), tmp_path / "model.gguf")) as server:
        async with started(UrlArm(f"{server.url}/v1", api_key=server.api_key)) as arm:
            answer = await arm.answer(Ask("a", 1, story_prompt("hello", 1), 8))
        check(answer, 8)
        arm = UrlArm(server.url, "tiny", "wrong key")
        with pytest.raises(EngineUnavailable, match="401"):
            await arm.start()
        await arm.close()


async def test_a_server_that_says_little() -> None:
    """Without usage the chunks are counted and the cache is unknown; what breaks off is an error."""

    async def plain(_: Any, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        for text in ("a", "b"):
            writer.write(f"data: {json.dumps({'choices': [{'text': text}]})}\n\n".encode())
        writer.write(b"data: [DONE]\n\n")

    async def broken(_: Any, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        writer.write(b"data: {no json\n\n")

    async def refusing(_: Any, writer: asyncio.StreamWriter) -> None:
        await send_json(writer, 400, {"error": "no ids here"})

    async def failing(_: Any, writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        writer.write(b'data: {"error": {"message": "out of pages"}}\n\n')
        writer.write(b"data: [DONE]\n\n")

    async with completion_server() as server, started(UrlArm(server.url)) as arm:
        server.behaviours = [plain, broken, refusing, failing]
        answer = await arm.answer(Ask("a", 1, PROMPT, 2))
        assert (answer.text, answer.tokens, answer.cached_tokens) == ("ab", 2, UNKNOWN)
        with pytest.raises(EngineUnavailable, match="broke off"):
            await arm.answer(Ask("a", 1, PROMPT, 2))
        with pytest.raises(EngineUnavailable, match="no ids here"):
            await arm.answer(Ask("a", 1, PROMPT, 2))
        with pytest.raises(EngineUnavailable, match="out of pages"):
            await arm.answer(Ask("a", 1, PROMPT, 2))


async def test_a_server_that_is_not_there() -> None:
    """An address without a server is a sentence, before anything is measured."""
    arm = UrlArm("http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await arm.start()
    await arm.close()


async def test_a_chat_through_a_real_tokenizer(tmp_path: Path) -> None:
    """Replies go back into the next prompt as ids of the model's own tokenizer."""
    settings = folder_settings(tmp_path)
    talk = Conversation("a", PROMPT, 4, (OTHER,))
    async with started(GenerateArm(settings, 1)) as arm:
        samples: list[Sample] = await hold(arm, [talk], load_codec(settings.files).encode)
    reply = load_codec(settings.files).encode(samples[0].text)[:4]
    assert samples[1].prompt_tokens == len(PROMPT) + len(reply) + len(OTHER)
