"""A dataset folder: samples in three splits, what was dropped and why, and a manifest. Written whole or not at all.

    train.jsonl valid.jsonl test.jsonl     one sample a line
    dropped.jsonl                          one dropped row a line: source, file, line, reason; nothing of its text
    manifest.json                          see finetune.manifest

The version is the hash of the three split files, so it does not depend on where and when they were written. A sample of a
source with weight n stands n times in train.jsonl, under different ids; nobody has to weigh anything later.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from finetune.errors import DatasetInvalid, FinetuneError
from finetune.manifest import MANIFEST_NAME, DatasetManifest, SplitManifest, read_manifest
from finetune.samples import Sample, decode_sample, encode_sample

SPLITS: Final = ("train", "valid", "test")
DROPPED_NAME: Final = "dropped.jsonl"


@dataclass(frozen=True, slots=True)
class Dropped:
    """One row or sample that is not in the dataset."""

    source: str
    file: str
    line: int  # 1 = the first; 0 = the whole file
    reason: str


@dataclass(frozen=True, slots=True)
class Content:
    """The split files as they are written."""

    files: Mapping[str, bytes]
    splits: Mapping[str, SplitManifest]
    version: str


def encode_splits(splits: Mapping[str, Sequence[Sample]]) -> Content:
    """Return the files of the splits and the version of the dataset. Splits that are missing are empty."""
    files = {split: _encode(splits.get(split, ())) for split in SPLITS}
    parts = {split: _describe(splits.get(split, ()), content) for split, content in files.items()}
    version = hashlib.sha256("".join(f"{split} {part.sha256}\n" for split, part in parts.items()).encode()).hexdigest()
    return Content(files, parts, version)


def write_dataset(folder: Path, content: Content, manifest: DatasetManifest, dropped: Iterable[Dropped]) -> None:
    """Write a dataset folder; an older dataset in its place is replaced.

    Until the last moment everything lies in a hidden folder beside it, which goes when something fails. Raises FinetuneError when
    something else than a dataset stands there, and OSError.
    """
    _check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(folder) as hidden:
        for split, data in content.files.items():
            _write(hidden / f"{split}.jsonl", data)
        _write(hidden / DROPPED_NAME, "".join(f"{json.dumps(asdict(one), ensure_ascii=False)}\n" for one in dropped).encode())
        _write(hidden / MANIFEST_NAME, f"{manifest.model_dump_json(indent=2)}\n".encode())
        _put(hidden, folder)


def read_split(folder: Path, split: str) -> list[Sample]:
    """Return the samples of one split. Raises DatasetInvalid, also when the file is not as it was written."""
    promised = read_manifest(folder).splits.get(split)
    path = folder / f"{split}.jsonl"
    if promised is None:
        raise DatasetInvalid(f"{folder} has no split {split!r}; there are: {', '.join(SPLITS)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetInvalid(f"{path}: {error.strerror}.", hint="Prepare the dataset again.") from None
    if hashlib.sha256(data).hexdigest() != promised.sha256:
        raise DatasetInvalid(f"{path} is not as it was written.", hint="Prepare the dataset again; change the recipe, not the files.")
    return [_decode(line, path, number) for number, line in enumerate(_lines(data), start=1)]


def read_dropped(folder: Path) -> Iterator[Dropped]:
    """Yield what is not in the dataset. Raises DatasetInvalid."""
    path = folder / DROPPED_NAME
    try:
        for line in _lines(path.read_bytes()):
            yield Dropped(**json.loads(line))
    except (OSError, ValueError, TypeError) as error:
        raise DatasetInvalid(f"{path} cannot be read: {error}.", hint="Prepare the dataset again.") from None


def _encode(samples: Sequence[Sample]) -> bytes:
    return "".join(f"{encode_sample(sample)}\n" for sample in samples).encode()


def _lines(data: bytes) -> list[str]:
    return data.decode().split("\n")[:-1]  # `splitlines` also ends a line at U+2028, which JSON lets stand in a text


def _decode(line: str, path: Path, number: int) -> Sample:
    try:
        return decode_sample(line)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetInvalid(f"{path}, line {number}: {error}.", hint="Prepare the dataset again: it is of another version.") from None


def _describe(samples: Sequence[Sample], data: bytes) -> SplitManifest:
    return SplitManifest(samples=len(samples), groups=len({sample.group for sample in samples}), sha256=hashlib.sha256(data).hexdigest())


def _check_place(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and ((folder / MANIFEST_NAME).exists() or not any(folder.iterdir()))):
        return
    raise FinetuneError(f"{folder} is there already and is no dataset.", hint="Name another folder with --out.")


@contextmanager
def _hidden_folder(folder: Path) -> Iterator[Path]:
    hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put(hidden: Path, folder: Path) -> None:
    """Move `hidden` to `folder`. A dataset that stands there steps aside first, and comes back when the move fails."""
    old = hidden.with_name(f"{hidden.name}.old")
    try:
        if folder.exists():
            folder.rename(old)
        hidden.rename(folder)
    except BaseException:
        with suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
