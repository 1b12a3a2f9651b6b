"""Gets an encoder–decoder: a folder of transformers' files, from the hub or as the settings name it; verified and known again.

Of a repository only safetensors, configuration and tokenizer are fetched, each against the hash that the hub gives.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dialogue.engine.download import Progress, disk_errors
from dialogue.engine.local.seq2seq_files import describe_seq2seq, no_safetensors
from dialogue.engine.model_fetch import Fetcher
from dialogue.engine.model_files import ModelFiles, read_note, write_note
from dialogue.engine.model_reference import ModelReference, parse_reference
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import PUBLIC_SOURCES
from dialogue.errors import ModelReferenceInvalid

SMALL_FILES: Final = (
    "config.json", "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "spiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm", "vocab.json", "target_vocab.json",
)  # fmt: skip


def pull_seq2seq(
    reference: str,
    cache_dir: Path,
    progress: Progress | None = None,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    sleep: Callable[[float], None] = time.sleep,
) -> ModelFiles:
    """Return the model that `reference` names, fetched if it is not there yet. Blocks. Raises ModelError.

    A model that is there is hashed once: a note in the cache says what came out.
    """
    parsed = parse_reference(reference)
    home = cache_dir / "models" / f"{parsed.folder_name}-seq2seq"
    if (known := read_note(home, str(parsed))) is not None:
        return known
    with disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        files = describe_seq2seq(str(parsed), _folder(parsed, home, Fetcher(sources, progress, sleep)))
        write_note(home, files)
    return files


def _folder(reference: ModelReference, home: Path, fetcher: Fetcher) -> Path:
    if reference.kind == "hf" and not reference.file:
        if not fetcher.fetch_folder(reference, home / "files", SMALL_FILES):
            raise no_safetensors(reference)
        return home / "files"
    if reference.kind == "path" and Path(reference.name).is_dir():
        return Path(reference.name)
    raise ModelReferenceInvalid(f"{reference} is no encoder–decoder. Name hf:OWNER/NAME[@REVISION] or a folder as transformers saves it.")
