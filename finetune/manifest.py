"""The manifest of a dataset: where every sample comes from, under which licence, and what was thrown away.

It lies in the dataset's folder as `manifest.json`. The version is a hash of the content alone; path and time stand beside it.
"""

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from finetune.errors import DatasetInvalid

MANIFEST_NAME: Final = "manifest.json"


class Part(BaseModel):
    """Unknown keys come from a newer Kefu, and are no reason to refuse a dataset."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SourceManifest(Part):
    """One source: what it is, and what became of its rows."""

    name: str
    licence: str
    origin: str = ""
    map: str
    files: dict[str, str] = {}  # name below the source's path → sha256; empty for turns of the database
    weight: int = 1  # its training samples stand in the files so many times already
    rows: int = 0  # read
    samples: int = 0  # what the rows gave, before anything was dropped
    dropped: dict[str, int] = {}  # reason → rows and samples
    changed: dict[str, int] = {}  # reason → samples; one sample may be changed for several
    kept: dict[str, int] = {}  # split → different samples in the dataset


class SplitManifest(Part):
    """One file of samples."""

    samples: int  # lines; with those that stand there more than once
    groups: int
    sha256: str  # of the file


class DatasetManifest(Part):
    """Everything about one dataset."""

    version: str  # sha256 over the files of the splits: equal samples, equal version
    name: str  # of the recipe
    created_at: str  # ISO 8601, UTC
    kefu: str  # version of the program
    splits: dict[str, SplitManifest]
    sources: tuple[SourceManifest, ...] = ()
    leaks: dict[str, int] = {}  # what was found in two splits, and how that was settled → samples
    recipe: dict[str, Any] = {}  # as it was resolved, without paths


def read_manifest(folder: Path) -> DatasetManifest:
    """Return the manifest of a dataset. Raises DatasetInvalid."""
    path = folder / MANIFEST_NAME
    try:
        return DatasetManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetInvalid(
            f"{folder} is no dataset: {path.name}: {error.strerror}.", hint="Make one with `kefu finetune prepare`."
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DatasetInvalid(f"{path}: {key}: {first['msg']}.", hint="Prepare the dataset again.") from None
