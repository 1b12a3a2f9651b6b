"""A GGUF file as torch reads it: dequantised once, into a folder of transformers' files that anything for folders can load.

    CACHE/finetune/NAME-HASH/    config.json, model.safetensors, tokenizer.json, tokenizer_config.json, chat_template.jinja

Training and the engine for decoders share it.
"""

import contextlib
import copy
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from dialogue.engine.model_files import TEMPLATE_NAME, TOKENIZER_NAME, ModelFiles, describe_folder
from dialogue.errors import ModelError
from dialogue.tokenizer import CONFIG_NAME

FOLDER: Final = "finetune"  # below the cache

transformers.utils.logging.set_verbosity_error()  # what people need to know is said by this program
transformers.utils.logging.disable_progress_bar()


def torch_folder(files: ModelFiles, cache_dir: Path) -> Path:
    """Return the folder with the dequantised weights of a GGUF file; written whole or not at all. Raises ModelError."""
    target = cache_dir / FOLDER / f"{files.path.stem}-{files.sha256[:12]}"
    if not target.is_dir():
        write_whole(target, lambda folder: _dequantise(files, folder))
    return target


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


def first_line(error: Exception) -> str:
    """Return what a library's error says, without its advice."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _dequantise(files: ModelFiles, folder: Path) -> None:
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar heeds no setting
            model = transformers.AutoModelForCausalLM.from_pretrained(files.path.parent, gguf_file=files.path.name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{files.path.name} cannot be dequantised: {first_line(error)}") from error
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
