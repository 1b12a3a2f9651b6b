"""The folder of an encoder–decoder as transformers saves it, looked at before anything of it is loaded.

Weights come from safetensors alone: other formats run code when they are opened. A folder that brings code of its own is
refused too. Needs neither torch nor transformers.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dialogue.engine.download import file_sha256
from dialogue.engine.local.seq2seq_family import FAMILIES
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import ModelError
from dialogue.tokenizer import CONFIG_NAME, read_json

MODEL_CONFIG_NAME: Final = "config.json"
WEIGHTS_PATTERN: Final = "*.safetensors"
CODE_KEY: Final = "auto_map"  # by which transformers would find code in the folder
UNBOUNDED: Final = 1 << 20  # tokens: for models that place tokens relative to one another
TARGET_FOLDER: Final = "target"  # the tokenizer of what the model writes, where it has one of its own
TOKENIZER_PATTERNS: Final = (
    "tokenizer*.json",
    "*.spm",
    "*.model",
    "vocab*.json",
    "target_vocab.json",
    "special_tokens_map.json",
    "added_tokens.json",
    f"{TARGET_FOLDER}/tokenizer*.json",
)


def describe_seq2seq(reference: str, folder: Path) -> ModelFiles:
    """Read a folder. Hashing big weights takes seconds. Raises ModelError when it cannot be served."""
    config = checked_config(folder)
    weights = sorted(folder.glob(WEIGHTS_PATTERN))
    if not weights:
        raise no_safetensors(folder)
    limit = positions(config)
    return ModelFiles(
        reference=reference,
        path=folder,
        sha256=_digest(weights, folder),
        tokenizer_path=folder / CONFIG_NAME,
        template="",
        context_tokens=UNBOUNDED if limit is None else 2 * limit,  # source and reply, each on its own side
        architecture=str(config["model_type"]),
        name=folder.name,
    )


def no_safetensors(place: object) -> ModelError:
    """Return what to say of a folder or repository whose weights lie in another format."""
    return ModelError(
        f"{place} holds no *.safetensors file. Other formats are not opened, because they can run code: save the model again "
        "with transformers, or name a revision of the hub that has the file, often @refs/pr/N."
    )


def checked_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder of a known family that brings no code. Raises ModelError."""
    if not (folder / MODEL_CONFIG_NAME).is_file():
        raise ModelError(f"{folder} holds no {MODEL_CONFIG_NAME}. Name a folder as transformers saves it.")
    config = read_json(folder / MODEL_CONFIG_NAME)
    for values in (config, read_json(folder / CONFIG_NAME)):
        if CODE_KEY in values:
            raise ModelError(f"The model in {folder} wants to run code of its own ({CODE_KEY}); such models are not loaded.")
    if config.get("model_type") not in FAMILIES:
        raise ModelError(f"The model type {config.get('model_type')!r} in {folder} is none of the encoder–decoders: {', '.join(FAMILIES)}.")
    return config


def positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens fit on one side of the model; None where tokens are placed relative to one another."""
    limit = config.get("max_position_embeddings")
    return int(limit) if isinstance(limit, int) and FAMILIES[config["model_type"]] != "t5" else None


def tokenizer_digest(folder: Path) -> str:
    """Return the sha256 over everything in a folder that decides how text is cut into tokens."""
    files = sorted({path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern)})
    return _digest(files, folder)


def _digest(files: list[Path], folder: Path) -> str:
    return hashlib.sha256("".join(f"{path.relative_to(folder)} {file_sha256(path)}\n" for path in files).encode()).hexdigest()
