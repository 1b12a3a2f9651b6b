"""What breaks a run, as a sentence that names the setting to change. The only place that reads the libraries' words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from finetune.errors import TrainingFailed

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
_DISK_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "unexpected pos",
    "os error 27",
    "os error 28",
    "os error 122",
)
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def explained(run: Path) -> Iterator[None]:
    """Turn a full memory or disk into TrainingFailed; everything else passes."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise TrainingFailed("The memory is full.", hint=_MEMORY_HINT) from error
        if is_full_disk(error):
            raise TrainingFailed(f"The disk of {run} is full.", hint=_DISK_HINT) from error
        raise


_MEMORY_HINT = "Lower train.rows_per_device or train.row_tokens, or set train.gradient_checkpointing = true; then begin anew."
_DISK_HINT = "Free some space, or let --out name a folder on another disk; --resume goes on from the last whole checkpoint."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the device or of the machine ran out."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _MEMORY_WORDS)


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk ran full, said by the system or by one of the libraries that write checkpoints."""
    return (isinstance(error, OSError) and error.errno in _DISK_ERRORS) or any(words in str(error) for words in _DISK_WORDS)
