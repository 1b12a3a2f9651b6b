"""A GGUF file made ready: its header read. Takes seconds and needs numpy, so it is imported when a
model is pulled and not before."""

from pathlib import Path

import gguf

from dialogue.engine.model_files import DEFAULT_CONTEXT_TOKENS, TOKENIZER_NAME, ModelFiles
from dialogue.errors import ModelError


def describe_gguf(reference: str, path: Path, sha256: str, folder: Path) -> ModelFiles:
    """Read the header of a GGUF file whose tokenizer belongs into `folder`. Takes seconds. Raises ModelError."""
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ModelError(f"{path} is no GGUF file that can be read ({error}). Name another model.") from error
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.ggml.")}
    architecture = str(fields.get("general.architecture", ""))
    return ModelFiles(
        reference=reference,
        path=path,
        sha256=sha256,
        tokenizer_path=folder / TOKENIZER_NAME,
        template=str(fields.get("tokenizer.chat_template", "")),
        context_tokens=int(fields.get(f"{architecture}.context_length", DEFAULT_CONTEXT_TOKENS)),
        architecture=architecture,
        name=str(fields.get("general.name", path.stem)),
    )
