"""The LoRA of an encoder–decoder written into its base: a whole model, which its engine serves without an adapter."""

import shutil
from pathlib import Path
from typing import Final

import torch

from dialogue.engine.local.seq2seq_files import TOKENIZER_PATTERNS
from dialogue.engine.local.seq2seq_model import load_weights
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from finetune.errors import FinetuneError
from finetune.training.lora import attach_trained
from finetune.training.run_folder import RunManifest
from finetune.training.seq2seq_train import Seq2SeqBase, find_seq2seq

_TASKS: Final = "task_specific_params"  # the tasks that a T5 says it was trained for


def seq2seq_base_of(manifest: RunManifest, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES) -> Seq2SeqBase:
    """Return the base of a run, if it is still the one that was trained on. Raises FinetuneError and ModelError."""
    base = find_seq2seq(manifest.base.reference, cache_dir, sources)
    if base.files.sha256 != manifest.base.sha256:
        raise FinetuneError(f"{manifest.base.reference} is no longer the model that the run was trained on.")
    return base


def save_merged(base: Seq2SeqBase, adapter: Path, folder: Path) -> None:
    """Write the base with an adapter of this program into `folder`: weights in float32, the tokenizer as it was.

    The list of its base's tasks goes: it would refuse a pair of languages that was learned since.
    """
    model = attach_trained(load_weights(base.files.path, torch.device("cpu"), torch.float32), adapter).merge_and_unload(safe_merge=True)
    if getattr(model.config, _TASKS, None):
        setattr(model.config, _TASKS, None)
    model.save_pretrained(folder)
    _copy_tokenizer(base.files.path, folder)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy everything that decides how text is cut into tokens."""
    for path in {path for pattern in TOKENIZER_PATTERNS for path in source.glob(pattern)}:
        target = folder / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
