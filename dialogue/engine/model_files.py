"""What is known about a model on this machine, and the note that spares us from finding it out again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dialogue.engine.download import file_sha256
from dialogue.errors import ModelError
from dialogue.tokenizer import CONFIG_NAME, read_json

NOTE_NAME = "model.json"
TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
DEFAULT_CONTEXT_TOKENS = 2048  # for a model that does not say; the smallest context of today's models


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine, ready to be loaded."""

    reference: str
    path: Path  # the GGUF file, or the folder of transformers' files
    sha256: str  # of the GGUF file, or of the folder's weights together; empty when the folder holds none
    tokenizer_path: Path  # tokenizer.json; tokenizer_config.json lies beside it
    template: str  # the model's own chat template, Jinja; empty = it has none
    context_tokens: int  # what the model was trained for
    architecture: str  # "llama", "qwen3", …
    name: str  # as its makers call it

    @property
    def tokenizer_sha256(self) -> str:
        """Of tokenizer.json, as `Tokenizer.sha256`; "" where the file is not there. Reads the file."""
        return file_sha256(self.tokenizer_path) if self.tokenizer_path.is_file() else ""

    @property
    def template_sha256(self) -> str:
        """Of the chat template, as `ChatTemplate.sha256`; "" = it has none."""
        return hashlib.sha256(self.template.encode()).hexdigest() if self.template else ""


@dataclass(frozen=True, slots=True)
class _Note:
    files: ModelFiles  # paths inside the note's own folder are relative, so that a cache can be moved
    size: int  # bytes
    modified_s: int  # whole seconds: container images keep no fractions


_NOTE = TypeAdapter(_Note)


def describe_folder(reference: str, folder: Path) -> ModelFiles:
    """Read a folder as transformers saves it. Hashing big weights takes seconds. Raises ModelError."""
    tokenizer = folder / TOKENIZER_NAME
    if not tokenizer.is_file():
        raise ModelError(f"{folder} holds no {TOKENIZER_NAME}. Name a GGUF file, or a folder as transformers saves it.")
    config = read_json(folder / "config.json")
    hashes = "".join(f"{path.name} {file_sha256(path)}\n" for path in _weights(folder))
    return ModelFiles(
        reference=reference,
        path=folder,
        sha256=hashlib.sha256(hashes.encode()).hexdigest() if hashes else "",
        tokenizer_path=tokenizer,
        template=_folder_template(folder),
        context_tokens=int(config.get("max_position_embeddings", DEFAULT_CONTEXT_TOKENS)),
        architecture=str(config.get("model_type", "")),
        name=folder.name,
    )


def read_note(folder: Path, reference: str | None = None) -> ModelFiles | None:
    """Return what the note in `folder` says, or None where there is none or the model is not the one it was written for."""
    try:
        note = _NOTE.validate_json((folder / NOTE_NAME).read_bytes())
        files = replace(note.files, path=folder / note.files.path, tokenizer_path=folder / note.files.tokenizer_path)
        fits = (note.size, note.modified_s) == _fingerprint(files.path) and files.tokenizer_path.is_file()
    except (OSError, ValidationError):
        return None
    return files if fits and reference in {None, files.reference} else None


def write_note(folder: Path, files: ModelFiles) -> None:
    """Keep what is known about a model in `folder`, at once or not at all."""
    size, modified_s = _fingerprint(files.path)
    inside = replace(files, path=_inside(folder, files.path), tokenizer_path=_inside(folder, files.tokenizer_path))
    part = folder / f"{NOTE_NAME}.part"
    part.write_bytes(_NOTE.dump_json(_Note(inside, size, modified_s), indent=1))
    part.replace(folder / NOTE_NAME)


def _inside(folder: Path, path: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _fingerprint(path: Path) -> tuple[int, int]:
    """Return size and time of a model, by which a changed one is noticed."""
    states = [each.stat() for each in (_watched(path) if path.is_dir() else [path])]
    return sum(state.st_size for state in states), max(int(state.st_mtime) for state in states)


def _watched(folder: Path) -> list[Path]:
    return [*_weights(folder), *sorted(folder.glob("*.json")), *sorted(folder.glob("*.jinja"))]


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _folder_template(folder: Path) -> str:
    """Return the chat template of a folder: a file of its own today, an entry of tokenizer_config.json before that."""
    own = folder / TEMPLATE_NAME
    return own.read_text(encoding="utf-8") if own.is_file() else _named_template(read_json(folder / CONFIG_NAME))


def _named_template(config: Mapping[str, Any]) -> str:
    entry = config.get("chat_template") or ""
    if isinstance(entry, list):  # several by name, for tools and retrieval
        entry = next((each["template"] for each in entry if each.get("name") == "default"), "")
    return str(entry)
