"""Two datasets side by side: which samples came, went, changed or moved to another split, and what their recipes say otherwise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.dataset import SPLITS, read_split
from finetune.manifest import read_manifest
from finetune.samples import Sample, encode_sample


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second dataset has otherwise than the first. Ids are in order."""

    versions: tuple[str, str]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str, str], ...]  # id, split before, split after
    samples: Mapping[str, tuple[int, int]]  # split → lines before and after
    recipe: Mapping[str, tuple[Any, Any]]  # key → value before and after; None = not there

    @property
    def equal(self) -> bool:
        """Whether both hold the same samples in the same splits."""
        return self.versions[0] == self.versions[1]


def compare(first: Path, second: Path) -> Difference:
    """Compare two dataset folders. Raises DatasetInvalid."""
    before, after = _samples(first), _samples(second)
    manifests = read_manifest(first), read_manifest(second)
    both = sorted(before.keys() & after.keys())
    return Difference(
        versions=(manifests[0].version, manifests[1].version),
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(key for key in both if encode_sample(before[key][1]) != encode_sample(after[key][1])),
        moved=tuple((key, before[key][0], after[key][0]) for key in both if before[key][0] != after[key][0]),
        samples={split: (_lines(manifests[0], split), _lines(manifests[1], split)) for split in SPLITS},
        recipe=dict(_changes(manifests[0].recipe, manifests[1].recipe)),
    )


def _samples(folder: Path) -> dict[str, tuple[str, Sample]]:
    return {sample.id: (split, sample) for split in SPLITS for sample in read_split(folder, split)}


def _lines(manifest: Any, split: str) -> int:
    return manifest.splits[split].samples if split in manifest.splits else 0


def _changes(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the keys with different values; lists and tables are compared item by item."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _changes(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True), start=1):
            yield from _changes(one, other, f"{key}[{number}]")
    elif before != after:
        yield key, (before, after)
