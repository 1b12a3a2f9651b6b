"""A hub repository of transformers' files, fetched and verified file by file: what a chat on a CPU never needs.

CACHE/models/hf-NAME-XXXXXXXX-torch/
    files/        config.json, *.safetensors, tokenizer.json, …
    model.json    the note, written last; beside the folder, because a change in there makes it void
"""

import time
from pathlib import Path

from dialogue.engine.download import Progress, disk_errors
from dialogue.engine.model_fetch import TOKENIZER_FILES, Fetcher
from dialogue.engine.model_files import ModelFiles, describe_folder, read_note, write_note
from dialogue.engine.model_reference import parse_reference
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import pull


def pull_folder(reference: str, cache_dir: Path, sources: ModelSources, progress: Progress | None = None) -> ModelFiles | None:
    """Return the folder of a reference hf:OWNER/NAME, fetched once; None for another reference or a repository without safetensors.

    Raises ModelReferenceInvalid, ModelDownloadFailed, ModelHashMismatch and ModelError. What had arrived when it fails is kept.
    """
    parsed = parse_reference(reference)
    if parsed.kind != "hf" or parsed.file:
        return None
    home = cache_dir / "models" / f"{parsed.folder_name}-torch"
    folder = home / "files"
    if (known := read_note(home, reference)) is not None:
        return known
    with disk_errors(home):
        if not Fetcher(sources, progress, time.sleep).fetch_folder(parsed, folder, TOKENIZER_FILES):
            return None
        files = describe_folder(reference, folder)
        write_note(home, files)
    return files


def pull_for_torch(reference: str, cache_dir: Path, sources: ModelSources, progress: Progress | None = None) -> ModelFiles:
    """Return the files that torch reads a model from: a folder of the hub, else what any engine takes. Raises ModelError."""
    return pull_folder(reference, cache_dir, sources, progress) or pull(reference, cache_dir, progress, sources=sources)
