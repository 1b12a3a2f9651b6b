"""The engine that serves, on the float32 form of a base model: what is compared are adapters, not roundings."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from dialogue.config import EngineConfig
from dialogue.engine.base import Engine
from dialogue.engine.factory import build_engine
from dialogue.engine.model_files import ModelFiles
from finetune.training.gguf_export import export_gguf
from finetune.training.gguf_model import FLOAT_NAME, float_gguf

_START_S: Final = 600.0  # a big model in float32 from a slow disk


def float_form(files: ModelFiles, cache_dir: Path) -> ModelFiles:
    """Return a model as a float32 GGUF file, from the cache once it was made. Raises FinetuneError where it cannot be one.

    It keeps the hash of the model that it was made of, which is what adapters ask for.
    """
    if files.path.is_file():
        return replace(files, path=float_gguf(files, cache_dir))
    target = cache_dir / "finetune" / f"{files.path.name}-{files.sha256[:12]}-{FLOAT_NAME}"
    if not target.is_file():
        export_gguf(files.path, target)
    return replace(files, path=target)


def build_float_engine(config: EngineConfig, files: ModelFiles, *, context_tokens: int, slots: int, kind: str = "llamacpp") -> Engine:
    """Return an engine for a model's files, not yet started: within the owner's cache and threads, its size as given."""
    settings = replace(
        config, kind=kind, context_tokens=context_tokens, slots=slots, cache_ram_mib=0, start_timeout_s=_START_S, remote=None
    )
    return build_engine(settings, files)
