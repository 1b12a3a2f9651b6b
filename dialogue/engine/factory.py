"""From settings to the engine that answers. The one place where engines are put together.

    llamacpp (auto)   AdmittedEngine ─► BreakerEngine ─► ProcessEngine ─► llama.cpp in a child process
    local             AdmittedEngine ─► BreakerEngine ─► ProcessEngine ─► a decoder on torch in a child process
    seq2seq           AdmittedEngine ─► BreakerEngine ─► ProcessEngine ─► an encoder–decoder on torch in a child process
    remote            AdmittedEngine ─► BreakerEngine ─► RemoteEngine
    scripted          AdmittedEngine ─► BreakerEngine ─► ScriptedEngine, in this process
    another name      AdmittedEngine ─► BreakerEngine ─► what the entry point of that name in the group kefu.engines builds

llama.cpp and torch are imported in the child alone.
"""

from collections.abc import Callable, Mapping
from importlib import metadata, util
from typing import cast

from dialogue.config import EngineConfig
from dialogue.engine.admission import AdmissionLimits, AdmittedEngine
from dialogue.engine.base import Engine
from dialogue.engine.breaker import BreakerEngine
from dialogue.engine.child_process import ProcessLimits
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.models import load_tokenizer
from dialogue.engine.process import ProcessEngine
from dialogue.engine.scripted import ScriptedEngine
from dialogue.engine.spec import EngineSpec
from dialogue.engine.wire import plain
from dialogue.errors import EngineUnavailable

ENTRY_POINTS = "kefu.engines"
TORCH_LIBRARIES = ("torch", "transformers", "sentencepiece")

# What an entry point names. It may use `files` or leave them alone; Kefu puts admission and breaker around the result.
EngineBuilder = Callable[[EngineConfig, ModelFiles | None], Engine]


def build_engine(config: EngineConfig, files: ModelFiles | None) -> Engine:
    """Return the engine that `config` asks for, not yet started. `files` is the model that was pulled, where one is needed.

    Raises EngineUnavailable when there is no such engine or something that it needs is missing.
    """
    limits = AdmissionLimits(max_waiting=config.max_waiting, max_queue_tokens=config.max_queue_tokens)
    return AdmittedEngine(BreakerEngine(_find_builder(config.kind)(config, files)), limits)


def llamacpp_spec(config: EngineConfig, files: ModelFiles) -> EngineSpec:
    """Return how llama.cpp is started in a child process, with the context capped at the model's."""
    arguments = {
        "model": str(files.path),
        "reference": files.reference,
        "sha256": files.sha256,
        "context_tokens": min(config.context_tokens, files.context_tokens),
        "slots": config.slots,
        "threads": config.threads,
        "cache_ram_mib": config.cache_ram_mib,
        "speculation": config.speculation,
        "cache_dir": str(config.cache_dir),
        "tokenizer_sha256": files.tokenizer_sha256,
        "template_sha256": files.template_sha256,
    }
    return EngineSpec("llamacpp", arguments, adapters_at_start=True)


def local_spec(config: EngineConfig, files: ModelFiles) -> EngineSpec:
    """Return how a decoder on torch is started in a child process, with the context capped at the model's."""
    arguments = {
        "files": plain(files) | {"path": str(files.path), "tokenizer_path": str(files.tokenizer_path)},
        "context_tokens": min(config.context_tokens, files.context_tokens),
        "slots": config.slots,
        "threads": config.threads,
        "weights": config.weights,
        "cache_ram_mib": config.cache_ram_mib,
        "cache_dir": str(config.cache_dir),
        "tokenizer_sha256": files.tokenizer_sha256,
        "template_sha256": files.template_sha256,
    }
    return EngineSpec("local", arguments)


def seq2seq_spec(config: EngineConfig, files: ModelFiles) -> EngineSpec:
    """Return how an encoder–decoder is started in a child process."""
    arguments = {
        "folder": str(files.path),
        "reference": files.reference,
        "sha256": files.sha256,
        "context_tokens": min(config.context_tokens, files.context_tokens),
        "slots": config.slots,
        "threads": config.threads,
    }
    return EngineSpec("seq2seq", arguments)


def check_torch(kind: str = "seq2seq") -> None:
    """Raise EngineUnavailable, with the command that installs them, when the libraries of the engines on torch are missing."""
    missing = [name for name in TORCH_LIBRARIES if util.find_spec(name) is None]
    if missing:
        error = EngineUnavailable(f"The engine {kind} needs {' and '.join(missing)}.")
        error.hint = "Install it with: pip install 'kefu[torch]'"
        raise error


def _supervised(spec: EngineSpec, config: EngineConfig) -> Engine:
    return ProcessEngine(spec, ProcessLimits(start_timeout_s=config.start_timeout_s, hang_timeout_s=config.hang_timeout_s))


def _local(config: EngineConfig, files: ModelFiles | None) -> Engine:
    check_torch("local")
    if files is None or not (files.sha256 and files.tokenizer_path.is_file()):
        raise EngineUnavailable("The engine local needs a model with its weights. Let the setting model.reference name one.")
    return _supervised(local_spec(config, files), config)


def _seq2seq(config: EngineConfig, files: ModelFiles | None) -> Engine:
    check_torch()
    if files is None or not files.path.is_dir():
        raise EngineUnavailable("The engine seq2seq needs a folder as transformers saves it, with *.safetensors in it.")
    return _supervised(seq2seq_spec(config, files), config)


def _llamacpp(config: EngineConfig, files: ModelFiles | None) -> Engine:
    if files is None or files.path.is_dir():
        raise EngineUnavailable("The engine llamacpp needs a GGUF file. Let the setting model.reference name one.")
    return _supervised(llamacpp_spec(config, files), config)


def _remote(config: EngineConfig, files: ModelFiles | None) -> Engine:
    from dialogue.engine.remote import RemoteEngine  # noqa: PLC0415 - brings an HTTP client that the other engines do not need

    if config.remote is None:
        raise EngineUnavailable("The engine remote needs servers. Let the setting remote.base_urls name them.")
    return RemoteEngine(config.remote, encode=load_tokenizer(files).encode if files else None)


def _scripted(config: EngineConfig, files: ModelFiles | None) -> Engine:  # noqa: ARG001 - it answers without a model
    return ScriptedEngine(slots=config.slots, context_tokens=config.context_tokens)


_BUILDERS: Mapping[str, EngineBuilder] = {
    "auto": _llamacpp,
    "llamacpp": _llamacpp,
    "local": _local,
    "remote": _remote,
    "scripted": _scripted,
    "seq2seq": _seq2seq,
}


def _find_builder(kind: str) -> EngineBuilder:
    if kind in _BUILDERS:
        return _BUILDERS[kind]
    entries = metadata.entry_points(group=ENTRY_POINTS)
    for entry in entries.select(name=kind):
        return cast("EngineBuilder", entry.load())
    known = ", ".join(sorted({*_BUILDERS, *entries.names}))
    raise EngineUnavailable(f"There is no engine {kind!r}. Let the setting engine.kind name one of these: {known}.")
