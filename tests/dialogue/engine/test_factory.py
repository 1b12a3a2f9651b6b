"""Promises of putting engines together."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata, util
from pathlib import Path

import pytest

from dialogue.config import EngineConfig, RemoteConfig
from dialogue.engine.adapters import TEMPLATE_HASH_KEY
from dialogue.engine.base import AdapterRef, Engine, GenerationFinished, GenerationRequest, SamplingParams, TextDelta
from dialogue.engine.factory import ENTRY_POINTS, build_engine, llamacpp_spec, local_spec
from dialogue.engine.llamacpp import build
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.models import load_template, load_tokenizer
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import AdapterRejected, EngineUnavailable
from tests.dialogue.engine.adapter_folders import write_adapter
from tests.dialogue.engine.llamacpp_scene import tiny_files
from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_gguf import tiny_model
from tests.model_fixtures import default_model


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(cache_dir=tmp_path, slots=2, context_tokens=512, threads=1, cache_ram_mib=16)


async def answer(engine: Engine) -> str:
    """Start an engine, ask it once and close it."""
    try:
        await engine.start()
        request = GenerationRequest("r", (5, 6, 7), SamplingParams(max_tokens=4, temperature=0, ignore_eos=True))
        events = [event async for event in engine.generate(request)]
    finally:
        await engine.close()
    assert isinstance(events[-1], GenerationFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("kind", ["auto", "llamacpp"])
async def test_llamacpp(config: EngineConfig, tmp_path: Path, kind: str) -> None:
    """The default answers with the model, in a child process: this one never loads llama.cpp for it."""
    engine = build_engine(replace(config, kind=kind), tiny_files(tmp_path))
    assert (await answer(engine)).startswith("t")
    assert not engine.health().ready


async def test_remote(config: EngineConfig, tmp_path: Path) -> None:
    """Servers elsewhere answer as well."""
    with llama_server(tiny_files(tmp_path).path) as server:
        remote = RemoteConfig((server.url,), "tiny", server.api_key)
        assert (await answer(build_engine(replace(config, kind="remote", remote=remote), None))).startswith("t")


async def test_scripted(config: EngineConfig) -> None:
    """The engine without a model needs none."""
    assert await answer(build_engine(replace(config, kind="scripted"), None))


def test_the_context_is_capped(config: EngineConfig, tmp_path: Path) -> None:
    """No slot gets more context than the model was trained for."""
    files = tiny_files(tmp_path)
    assert llamacpp_spec(config, files).arguments["context_tokens"] == 512
    assert llamacpp_spec(replace(config, context_tokens=10**6), files).arguments["context_tokens"] == files.context_tokens


def test_the_child_knows_tokenizer_and_template(config: EngineConfig) -> None:
    """What adapters are compared with in the child is what turns of this model are made with."""
    files = default_model()
    arguments = llamacpp_spec(config, files).arguments
    tokenizer = load_tokenizer(files)
    assert arguments["tokenizer_sha256"] == tokenizer.sha256
    assert arguments["template_sha256"] == load_template(files, tokenizer).sha256


async def test_an_adapter_of_another_template_is_refused(config: EngineConfig, tmp_path: Path) -> None:
    """llama.cpp takes an adapter that was trained with the served template, and none that was trained with another."""
    files = replace(tiny_files(tmp_path), template="{{ messages }}")
    facts = tiny_model().facts(files.sha256)
    good, bad = (
        AdapterRef(name, str(write_adapter(tmp_path / name, facts, metadata={TEMPLATE_HASH_KEY: sha256})))
        for name, sha256 in (("good", files.template_sha256), ("bad", "1" * 64))
    )
    engine = build(llamacpp_spec(config, files).arguments)
    await engine.set_adapters([good])
    with pytest.raises(AdapterRejected, match="another chat template"):
        await engine.set_adapters([bad])
    await engine.close()


def make_custom(config: EngineConfig, files: ModelFiles | None) -> Engine:
    """What an owner's package offers as an engine."""
    assert files is None
    return ScriptedEngine("my own", slots=config.slots)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with an engine of its own."""
    entry = metadata.EntryPoint("custom", f"{__name__}:make_custom", ENTRY_POINTS)
    real = metadata.entry_points

    def entry_points(*, group: str) -> metadata.EntryPoints:
        return metadata.EntryPoints((*real(group=group), entry) if group == ENTRY_POINTS else real(group=group))

    monkeypatch.setattr(metadata, "entry_points", entry_points)


@pytest.mark.usefixtures("installed")
async def test_an_installed_engine(config: EngineConfig) -> None:
    """The entry-point group kefu.engines adds engines by name."""
    assert await answer(build_engine(replace(config, kind="custom"), None)) == "my ownmy own"  # four tokens, its turn's end ignored


@pytest.mark.usefixtures("installed")
def test_an_engine_that_does_not_exist(config: EngineConfig) -> None:
    """An unknown name is refused with those that exist, installed ones among them."""
    with pytest.raises(EngineUnavailable, match=r"no engine 'nothing'.*auto, custom, llamacpp, local, remote, scripted"):
        build_engine(replace(config, kind="nothing"), None)


def test_what_is_missing(config: EngineConfig, tmp_path: Path) -> None:
    """An engine without its model or its servers is refused with the setting to change."""
    folder = replace(tiny_files(tmp_path), path=tmp_path)
    for files in (None, folder):
        with pytest.raises(EngineUnavailable, match=r"model\.reference"):
            build_engine(config, files)
    with pytest.raises(EngineUnavailable, match=r"remote\.base_urls"):
        build_engine(replace(config, kind="remote"), None)


def test_local(config: EngineConfig, tmp_path: Path) -> None:
    """The engine on torch is a child process that is told which model it serves; adapters are loaded into it while it runs."""
    files = default_model()
    spec = local_spec(config, files)
    assert json.loads(json.dumps(spec.arguments))["files"]["path"] == str(files.path)
    assert spec.arguments["template_sha256"] == files.template_sha256
    assert [local_spec(replace(config, weights=weights), files).arguments["weights"] for weights in ("full", "int8")] == ["full", "int8"]
    assert not spec.adapters_at_start
    assert not build_engine(replace(config, kind="local"), files).health().ready


def nowhere(_: str) -> None:
    """What `find_spec` says of a library that is not installed."""


def test_local_without_what_it_needs(config: EngineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a model, or without torch, the engine on torch is refused with what to do."""
    local = replace(config, kind="local")
    for files in (None, replace(default_model(), sha256="")):
        with pytest.raises(EngineUnavailable, match=r"model\.reference"):
            build_engine(local, files)
    monkeypatch.setattr(util, "find_spec", nowhere)
    with pytest.raises(EngineUnavailable, match="The engine local needs torch") as refused:
        build_engine(local, default_model())
    assert "kefu[torch]" in refused.value.hint


def test_native_code_stays_outside() -> None:
    """Importing the factory loads neither llama.cpp nor numpy, so that commands start fast."""
    code = "import sys, dialogue.engine.factory; print(sorted({'xllamacpp', 'numpy', 'gguf'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
