"""LlamaCppEngine in this process, with a tiny random model or the default one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dialogue.config import EngineConfig
from dialogue.engine.base import AdapterRef, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.download import file_sha256
from dialogue.engine.factory import llamacpp_spec
from dialogue.engine.llamacpp import LlamaCppEngine, build
from dialogue.engine.model_files import ModelFiles
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.fakes.tiny_gguf import CONTEXT, tiny_model, write_tiny_gguf
from tests.model_fixtures import default_model

GREEDY = SamplingParams(max_tokens=16, temperature=0, repetition_penalty=1, ignore_eos=True)


@dataclass(frozen=True)
class Reply:
    """A generation that came to its end."""

    text: str
    finished: GenerationFinished


def tiny_files(folder: Path) -> ModelFiles:
    """Write a model of random weights, whose attention matters for what it says."""
    path = write_tiny_gguf(tiny_model(), folder / "tiny.gguf")
    return ModelFiles("tiny", path, file_sha256(path), folder / "tokenizer.json", "", CONTEXT, "llama", "tiny")


def tiny_adapter(folder: Path, files: ModelFiles, name: str, seed: int) -> AdapterRef:
    """Write an adapter for the tiny model that changes what it says."""
    facts = tiny_model().facts(files.sha256)
    tensors = random_tensors(facts, EVERY_PROJECTION, 4, seed, strength=0.5)
    return AdapterRef(name, str(write_adapter(folder / name, facts, targets=EVERY_PROJECTION, tensors=tensors)))


@asynccontextmanager
async def opened(
    files: ModelFiles | None = None, *, cache_dir: Path, adapters: Sequence[AdapterRef] = (), context_tokens: int = 2048, slots: int = 4
) -> AsyncGenerator[LlamaCppEngine, None]:
    """Start an engine, the default model's without `files`, and close it in the end."""
    config = EngineConfig(cache_dir=cache_dir, context_tokens=context_tokens, slots=slots, cache_ram_mib=256, threads=1)
    engine = build(llamacpp_spec(config, files or default_model()).arguments)
    try:
        await engine.set_adapters(adapters)
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def ask(engine: LlamaCppEngine, prompt: Sequence[int], key: str = "", adapter: str | None = None, **sampling: Any) -> Reply:
    """Run a greedy generation to its end."""
    params = replace(GREEDY, **sampling)
    request = GenerationRequest("r", tuple(prompt), params, adapter=adapter, cache_key=key)
    events = [event async for event in engine.generate(request)]
    last = events[-1]
    assert isinstance(last, GenerationFinished)
    return Reply("".join(event.text for event in events if isinstance(event, TextDelta)), last)
