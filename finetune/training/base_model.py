"""The model that is tuned: found, made readable for torch, loaded.

What is served may be a quantised GGUF file. Torch reads transformers' folders, so such a file is dequantised once
(`dialogue.engine.local.dequantised`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from dialogue.chat_template import ChatTemplate
from dialogue.engine.download import Progress
from dialogue.engine.hub_model import pull_for_torch
from dialogue.engine.local.dequantised import first_line, torch_folder
from dialogue.engine.model_files import ModelFiles
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES, load_template, load_tokenizer, pull
from dialogue.errors import ModelError
from dialogue.tokenizer import Tokenizer

transformers.utils.logging.set_verbosity_error()  # what people need to know is said by this program
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A model on this machine, before its weights are loaded."""

    files: ModelFiles  # what is served: a GGUF file or a folder
    folder: Path  # the same weights as transformers reads them
    tokenizer: Tokenizer
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model in memory."""

    model: Any  # a causal language model of transformers: float32 on a CPU, bfloat16 on CUDA
    tokenizer: Tokenizer
    template: ChatTemplate
    files: ModelFiles
    folder: Path


def load_base(reference: str, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES, progress: Progress | None = None) -> BaseModel:
    """Return the model that `reference` names, on the CPU. Takes seconds. Raises ModelError and TemplateError."""
    base = find_base(reference, cache_dir, sources, progress)
    return BaseModel(load_weights(base.folder), base.tokenizer, base.template, base.files, base.folder)


def find_base(reference: str, cache_dir: Path, sources: ModelSources = PUBLIC_SOURCES, progress: Progress | None = None) -> BaseFiles:
    """Return the files of a model, fetched and dequantised if they are not there yet. Raises ModelError and TemplateError."""
    files = pull_for_torch(reference, cache_dir, sources, progress)
    tokenizer = load_tokenizer(files)
    folder = files.path if files.path.is_dir() else torch_folder(files, cache_dir)
    return BaseFiles(files, folder, tokenizer, load_template(files, tokenizer))


def load_weights(folder: Path, **options: Any) -> Any:
    """Return the causal language model in a folder of transformers' files. Raises ModelError."""
    settings = {"dtype": torch.bfloat16 if torch.cuda.is_available() else torch.float32, **options}
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {first_line(error)}") from error


def described(folder: Path, cache_dir: Path) -> ModelFiles:
    """Return what is known of a folder's model; hashing big weights happens once. Raises ModelError."""
    return pull(str(folder), cache_dir)
