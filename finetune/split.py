"""Which samples are held out: whole groups, by a hash of seed and group.

A group never moves because other groups came or went, as long as it is not the one that an empty split had to take: so a dataset
that grows keeps its test.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

from finetune.config import SplitSection

_STEPS: Final = 1 << 64
_SPLITS: Final = 3


def share_of(seed: int, key: str) -> float:
    """Return a number in [0, 1) that only seed and key decide; evenly spread over keys."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}".encode()).digest()[:8], "big") / _STEPS


def split_groups(groups: Iterable[str], shares: SplitSection, seed: int) -> dict[str, str]:
    """Return the split of each group.

    With three groups or more, no split that was asked for stays empty: the largest gives it the group that came nearest. With
    fewer, all are trained on.
    """
    places = {group: share_of(seed, group) for group in groups}
    if len(places) < _SPLITS:
        return dict.fromkeys(places, "train")
    splits = {group: _split_at(place, shares) for group, place in places.items()}
    for split, wanted in (("train", 1.0), ("test", shares.test), ("valid", shares.valid)):
        if wanted > 0 and split not in splits.values():
            sizes = Counter(splits.values())
            giver = max(sizes, key=lambda name: (sizes[name], name))
            aim = 1.0 if split == "train" else 0.0
            splits[min((group for group in places if splits[group] == giver), key=lambda group: (abs(places[group] - aim), group))] = split
    return splits


def _split_at(place: float, shares: SplitSection) -> str:
    if place < shares.test:
        return "test"
    return "valid" if place < shares.test + shares.valid else "train"
