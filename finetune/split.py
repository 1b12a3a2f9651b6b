"""Which samples are held out: whole groups, by a hash of seed and group.

A group never moves because other groups came or went, as long as it is not the one that an empty split had to take: so a dataset
that grows keeps its test.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from finetune.config import SplitSection

_STEPS: Final = 1 << 64


def share_of(seed: int, key: str) -> float:
    """Return a number in [0, 1) that only seed and key decide; evenly spread over keys."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}".encode()).digest()[:8], "big") / _STEPS


def split_groups(groups: Iterable[str], shares: SplitSection, seed: int) -> Mapping[str, str]:
    """Return the split of each group.

    With three groups or more, no split that was asked for stays empty: it takes the group that came nearest to it.
    """
    places = {group: share_of(seed, group) for group in groups}
    splits = {group: _split_at(place, shares) for group, place in places.items()}
    if len(places) >= len(("train", "valid", "test")):
        for split, share in (("test", shares.test), ("valid", shares.valid)):
            if share > 0 and split not in splits.values():
                spare = [group for group in places if splits[group] == "train"]
                splits[min(spare, key=lambda group: (places[group], group))] = split
    return splits


def _split_at(place: float, shares: SplitSection) -> str:
    if place < shares.test:
        return "test"
    return "valid" if place < shares.test + shares.valid else "train"
