"""An adapter and its base as one whole model: W + scaling · B·A written into the weights.

For engines that take no adapters, for DoRA, and for handing a model on.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dialogue.engine.local.dequantised import copy_tokenizer, write_whole
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from finetune.errors import FinetuneError
from finetune.training.base_model import BaseFiles, find_base, load_weights
from finetune.training.gguf_export import export_gguf
from finetune.training.gguf_model import Array, write_float_gguf
from finetune.training.lora import adapted_layers, attach_trained
from finetune.training.run_folder import RunManifest, read_run
from finetune.training.seq2seq_merge import save_merged, seq2seq_base_of


def merge(run: Path, target: Path, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Path:
    """Write the merged model of a finished run as a transformers' folder, float32, with tokenizer and template.

    Raises FinetuneError and ModelError.
    """
    if target.exists():
        raise FinetuneError(f"{target} is there already.", hint="Name another folder with --out.")
    write_whole(target, _writer(run, cache_dir, sources))
    return target


def _writer(run: Path, cache_dir: Path, sources: ModelSources) -> Callable[[Path], None]:
    """Return what writes the merged model into a folder, its base found already. Raises FinetuneError and ModelError."""
    manifest = read_run(run)
    if manifest.recipe.train.architecture == "seq2seq":
        pairs_base = seq2seq_base_of(manifest, cache_dir, sources)
        return lambda folder: save_merged(pairs_base, run / "adapter", folder)
    base = base_of(manifest, cache_dir, sources)
    return lambda folder: _save(run, base, folder)


def merge_gguf(run: Path, target: Path, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Path:
    """Write the merged model of a finished run as a float32 GGUF file. Raises FinetuneError and ModelError."""
    base = base_of(read_run(run), cache_dir, sources)
    if base.files.path.is_file():
        return write_float_gguf(base.files.path, _changed(run, base), target)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        folder = Path(place) / run.name
        _save(run, base, folder)
        return export_gguf(folder, target)


def base_of(manifest: RunManifest, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> BaseFiles:
    """Return the decoder that a run was trained on, if it is still the same. Raises FinetuneError and ModelError."""
    if manifest.recipe.train.architecture != "decoder":
        raise FinetuneError(
            f"{manifest.recipe.name} is an adapter of an encoder–decoder, and llama.cpp serves no such models here.",
            hint="The engine seq2seq loads it as it is, by [skills.translate] adapter; `kefu finetune merge` makes a whole model of it.",
        )
    base = find_base(manifest.base.reference, cache_dir, sources)
    if base.files.sha256 != manifest.base.sha256:
        raise FinetuneError(f"{manifest.base.reference} is no longer the model that the run was trained on.")
    return base


def _merged(run: Path, base: BaseFiles) -> tuple[Any, list[str]]:
    """Return the merged model, and the names of the weights that the adapter changed."""
    adapted = attach_trained(load_weights(base.folder, dtype=torch.float32), run / "adapter")
    changed = adapted_layers(adapted)
    return adapted.merge_and_unload(safe_merge=True), [f"{name}.weight" for name in changed]


def _save(run: Path, base: BaseFiles, folder: Path) -> None:
    model, _ = _merged(run, base)
    model.save_pretrained(folder)
    copy_tokenizer(base.files, folder)


def _changed(run: Path, base: BaseFiles) -> dict[str, Array]:
    model, names = _merged(run, base)
    weights = model.state_dict()
    return {name: weights[name].numpy() for name in names}
