"""Every engine that must keep the contract. Add yours to ENGINES: the suite runs over all of them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dialogue.config import EngineConfig, RemoteConfig
from dialogue.engine.adapters import load_adapter
from dialogue.engine.admission import AdmittedEngine
from dialogue.engine.base import AdapterRef, Engine
from dialogue.engine.breaker import BreakerEngine
from dialogue.engine.download import file_sha256
from dialogue.engine.factory import llamacpp_spec, local_spec, seq2seq_spec
from dialogue.engine.llamacpp import build
from dialogue.engine.local.decoder import build as build_local
from dialogue.engine.local.seq2seq import build as build_seq2seq
from dialogue.engine.local.seq2seq_files import describe_seq2seq
from dialogue.engine.lora_gguf import read_base_facts, write_gguf
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.models import load_template, load_tokenizer, pull
from dialogue.engine.process import ProcessEngine
from dialogue.engine.remote import RemoteEngine
from dialogue.engine.scripted import ScriptedEngine
from dialogue.engine.spec import EngineSpec
from dialogue.messages import ChatMessage, Role
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, random_tensors, write_adapter
from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import story_prompt, story_teller, write_tiny_gguf
from tests.fakes.tiny_seq2seq import story_prompt as seq2seq_story_prompt
from tests.fakes.tiny_seq2seq import write_story_teller, write_tiny_adapter
from tests.model_fixtures import default_model, model_cache
from tests.sizes import size


@dataclass(frozen=True)
class Subject:
    """A started engine and what the suite must know about it."""

    engine: Engine
    encode: Callable[[str], tuple[int, ...]]  # a user's text as a whole prompt, template structure included
    multibyte_prompt: tuple[int, ...]  # its greedy answer holds characters of several bytes
    adapter: AdapterRef | None = None  # one that loads; None = this engine cannot show adapters here
    continues: bool = True  # a prompt that continues another one need not be read anew; an encoder has to


@dataclass(frozen=True)
class Arm:
    """One engine of the suite. `open` starts it and closes it again; it may call pytest.skip()."""

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Subject]]


@asynccontextmanager
async def running(engine: Engine) -> AsyncGenerator[Engine, None]:
    """Start an engine and close it in the end."""
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


def encode_bytes(text: str) -> tuple[int, ...]:
    """The ids that ScriptedEngine reads as text."""
    return tuple(text.encode())


def scripted_arm(name: str, make: Callable[[dict[str, Any]], Engine]) -> Arm:
    """An arm around a ScriptedEngine that `make` builds from plain arguments."""

    @asynccontextmanager
    async def open_subject(folder: Path) -> AsyncGenerator[Subject, None]:
        adapter = folder / "adapter"
        adapter.mkdir()
        async with running(make({"slots": 3, "context_tokens": 2048, "token_delay_s": 0.001})) as engine:
            yield Subject(engine, encode_bytes, encode_bytes("你好，世界 🙂 naïve"), AdapterRef("release-1", str(adapter)))

    return Arm(name, open_subject)


@asynccontextmanager
async def open_remote(folder: Path, servers: int) -> AsyncGenerator[Subject, None]:
    """RemoteEngine over HTTP to real llama.cpp servers with an API key and a converted adapter."""
    model = story_teller()
    base = write_tiny_gguf(model, folder / "base.gguf")
    facts = model.facts("5" * 64)
    tensors = random_tensors(facts, EVERY_PROJECTION, 8, seed=3, strength=3.0)
    checked = load_adapter(write_adapter(folder / "peft", facts, targets=EVERY_PROJECTION, rank=8, tensors=tensors), facts)
    write_gguf(checked, facts, folder / "release-1.gguf")
    with ExitStack() as stack:
        started = [stack.enter_context(llama_server(base, [folder / "release-1.gguf"], context=2048)) for _ in range(servers)]
        config = RemoteConfig(tuple(server.url for server in started), "story-teller", started[0].api_key)
        async with running(RemoteEngine(config)) as engine:
            yield Subject(engine, story_prompt, story_prompt("你好", 0), AdapterRef("release-1", str(folder / "peft")))


def remote_arm(name: str, servers: int) -> Arm:
    """An arm over HTTP."""
    return Arm(name, lambda folder: open_remote(folder, servers))


def scripted_child(arguments: dict[str, Any], **spec: Any) -> ProcessEngine:
    """A ScriptedEngine in a child process."""
    return ProcessEngine(EngineSpec("scripted", arguments, **spec))


def tiny_llamacpp(folder: Path) -> tuple[ModelFiles, Subject]:
    """The story teller as a model that was pulled, and what its engine, still missing, is asked."""
    model = story_teller()
    base = write_tiny_gguf(model, folder / "base.gguf")
    facts = model.facts(file_sha256(base))
    tensors = random_tensors(facts, EVERY_PROJECTION, 8, seed=3, strength=3.0)
    adapter = write_adapter(folder / "peft", facts, targets=EVERY_PROJECTION, rank=8, tensors=tensors)
    files = ModelFiles("story-teller", base, facts.sha256, folder / "tokenizer.json", "", 2048, "llama", "story teller")
    return files, Subject(UNUSED, story_prompt, story_prompt("你好", 0), AdapterRef("release-1", str(adapter)))


def default_subject(folder: Path) -> tuple[ModelFiles, Subject]:
    """The default model."""
    files = default_model()
    tokenizer = load_tokenizer(files)
    template = load_template(files, tokenizer)
    base = read_base_facts(files.path, files.sha256, model_cache())
    adapter = AdapterRef("release-1", str(write_adapter(folder / "peft", base, rank=2)))
    multibyte = tuple(tokenizer.encode("日本語のテキスト。日本語の"))
    return files, Subject(UNUSED, lambda text: template.render_chat([ChatMessage(Role.USER, text)]).ids, multibyte, adapter)


def llamacpp_arm(name: str, make: Callable[[Path], tuple[ModelFiles, Subject]], host: Callable[[EngineSpec], Engine]) -> Arm:
    """An arm around llama.cpp."""

    @asynccontextmanager
    async def open_subject(folder: Path) -> AsyncGenerator[Subject, None]:
        files, subject = make(folder)
        config = EngineConfig(
            cache_dir=folder, context_tokens=2048, slots=3, cache_ram_mib=64, threads=1
        )  # more only wait for one another on a busy machine
        async with running(host(llamacpp_spec(config, files))) as engine:
            yield replace(subject, engine=engine)

    return Arm(name, open_subject)


def tiny_local(folder: Path) -> tuple[ModelFiles, Subject]:
    """The story teller as transformers saves it."""
    model = story_teller()
    files = pull(str(write_tiny_decoder(model, folder / "model")), folder)
    facts = model.facts(files.sha256)
    tensors = random_tensors(facts, EVERY_PROJECTION, 8, seed=3, strength=3.0)
    adapter = write_adapter(folder / "peft", facts, targets=EVERY_PROJECTION, rank=8, tensors=tensors)
    return files, Subject(UNUSED, story_prompt, story_prompt("你好", 0), AdapterRef("release-1", str(adapter)))


def local_arm(name: str, make: Callable[[Path], tuple[ModelFiles, Subject]], host: Callable[[EngineSpec], Engine]) -> Arm:
    """An arm around a decoder on torch."""

    @asynccontextmanager
    async def open_subject(folder: Path) -> AsyncGenerator[Subject, None]:
        files, subject = make(folder)
        config = EngineConfig(cache_dir=model_cache(), context_tokens=2048, slots=3, cache_ram_mib=4, threads=1)
        async with running(host(local_spec(config, files))) as engine:
            yield replace(subject, engine=engine)

    return Arm(name, open_subject)


def seq2seq_arm(name: str, host: Callable[[EngineSpec], Engine]) -> Arm:
    """An arm around the tiny encoder–decoder that tells a story."""

    @asynccontextmanager
    async def open_subject(folder: Path) -> AsyncGenerator[Subject, None]:
        files = describe_seq2seq("story-teller", write_story_teller(folder / "model"))
        adapter = AdapterRef("release-1", str(write_tiny_adapter(folder / "peft", files, strength=3.0)))
        config = EngineConfig(cache_dir=folder, context_tokens=2048, slots=3, threads=1)
        async with running(host(seq2seq_spec(config, files))) as engine:
            yield Subject(engine, seq2seq_story_prompt, seq2seq_story_prompt("你好"), adapter, continues=False)

    return Arm(name, open_subject)


UNUSED = ScriptedEngine()

ENGINES = [
    scripted_arm("scripted", lambda arguments: ScriptedEngine(**arguments)),
    scripted_arm("process(scripted)", scripted_child),
    scripted_arm("process(scripted), adapters at start", lambda arguments: scripted_child(arguments, adapters_at_start=True)),
    scripted_arm("admission(breaker(process(scripted)))", lambda arguments: AdmittedEngine(BreakerEngine(scripted_child(arguments)))),
    llamacpp_arm("llamacpp", tiny_llamacpp, lambda spec: build(spec.arguments)),
    llamacpp_arm("process(llamacpp)", tiny_llamacpp, ProcessEngine),
    *(
        [llamacpp_arm("process(llamacpp), default model", default_subject, ProcessEngine)]
        * size("default_model_contract", small=0, proof=1)
    ),
    local_arm("local", tiny_local, lambda spec: build_local(spec.arguments)),
    *(
        [local_arm("process(local)", tiny_local, ProcessEngine)] * size("local_process_contract", small=0, proof=1)
    ),  # torch loads for seconds
    *([local_arm("process(local), default model", default_subject, ProcessEngine)] * size("default_local_contract", small=0, proof=1)),
    seq2seq_arm("seq2seq", lambda spec: build_seq2seq(spec.arguments)),
    *([seq2seq_arm("process(seq2seq)", ProcessEngine)] * size("seq2seq_process_contract", small=0, proof=1)),
    remote_arm("remote(llama.cpp)", 1),
    remote_arm("remote(2 llama.cpp)", 2),
]
