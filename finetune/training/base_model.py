"""The model that is tuned: found, made readable for torch, loaded.

What is served may be a quantised GGUF file. Torch reads transformers' folders, so such a file is dequantised once, into a
folder that any engine for folders could serve as well:

    CACHE/finetune/NAME-HASH/    config.json, model.safetensors, tokenizer.json, tokenizer_config.json, chat_template.jinja
"""

import contextlib
import copy
import io
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from dialogue.chat_template import ChatTemplate
from dialogue.engine.download import Progress
from dialogue.engine.model_files import TEMPLATE_NAME, TOKENIZER_NAME, ModelFiles, describe_folder
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES, load_template, load_tokenizer, pull
from dialogue.errors import ModelError
from dialogue.tokenizer import CONFIG_NAME, Tokenizer
from finetune.training.hub_model import pull_folder

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
    files = pull_folder(reference, cache_dir, sources, progress) or pull(reference, cache_dir, progress, sources=sources)
    tokenizer = load_tokenizer(files)
    folder = files.path if files.path.is_dir() else torch_folder(files, cache_dir)
    return BaseFiles(files, folder, tokenizer, load_template(files, tokenizer))


def load_weights(folder: Path, **options: Any) -> Any:
    """Return the causal language model in a folder of transformers' files. Raises ModelError."""
    settings = {"dtype": torch.bfloat16 if torch.cuda.is_available() else torch.float32, **options}
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder} cannot be loaded as a causal language model: {_first_line(error)}") from error


def torch_folder(files: ModelFiles, cache_dir: Path) -> Path:
    """Return the folder with the dequantised weights of a GGUF file; written whole or not at all. Raises ModelError."""
    target = cache_dir / "finetune" / f"{files.path.stem}-{files.sha256[:12]}"
    if not target.is_dir():
        write_whole(target, lambda folder: _dequantise(files, folder))
    return target


def described(folder: Path, cache_dir: Path) -> ModelFiles:
    """Return what is known of a folder's model; hashing big weights happens once. Raises ModelError."""
    return pull(str(folder), cache_dir)


def copy_tokenizer(files: ModelFiles, folder: Path) -> None:
    """Put tokenizer and chat template of a model into another one's folder."""
    for name in (TOKENIZER_NAME, CONFIG_NAME):
        source = files.tokenizer_path.with_name(name)
        if source.is_file():
            shutil.copyfile(source, folder / name)
    (folder / TEMPLATE_NAME).write_text(files.template, encoding="utf-8")


def write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `target`, then give it its name in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    part.chmod(0o755)
    try:
        write(part)
        if not target.exists():  # another process may have been quicker
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _dequantise(files: ModelFiles, folder: Path) -> None:
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar heeds no setting
            model = transformers.AutoModelForCausalLM.from_pretrained(files.path.parent, gguf_file=files.path.name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{files.path.name} cannot be dequantised for training: {_first_line(error)}") from error
    _plain(model).save_pretrained(folder)
    copy_tokenizer(files, folder)
    describe_folder(files.reference, folder)


def _plain(model: Any) -> Any:
    """Return the model without the mark of the format that it was read from, which could not be saved."""
    config = copy.deepcopy(model.config)
    del config.quantization_config
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
