"""Leaks between splits: what is held out must not have been trained on.

A leak is the same group in two splits, the same question with the same answer, or a near duplicate. A group that leaks goes where its
copy is; where a source is only for the test, its copy in training goes instead.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from finetune.cleaning.duplicates import Index, fingerprint
from finetune.ledger import Item

MOVED: Final = "moved to the training split: a copy of it is there"
REMOVED: Final = "in a held-out split too"
_DEFAULT_LIKENESS: Final = 0.9  # also where near duplicates are allowed inside a split


@dataclass(frozen=True, slots=True)
class Leak:
    """Two samples that must not be in two splits."""

    earlier: Item  # in the split that comes first: train, valid, test
    later: Item
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A leak, and what was done about it."""

    reason: str
    remedy: str
    gone: Item | None  # the sample that was taken away


def find_leaks(splits: Mapping[str, Sequence[Item]], likeness: float) -> Iterator[Leak]:
    """Yield the leaks, each later sample once. `splits` are in order: train, valid, test; `likeness` is 0 for the usual one."""
    index = Index(likeness or _DEFAULT_LIKENESS)
    groups: dict[str, Item] = {}
    before: list[Item] = []
    for items in splits.values():
        found = [(item, leak) for item in items for leak in _leak(item, index, groups, before)]
        yield from (leak for _, leak in found)
        for item in items:
            before.append(item)
            index.add(fingerprint(item.sample))
            groups.setdefault(item.sample.group, item)


def _leak(item: Item, index: Index, groups: Mapping[str, Item], before: Sequence[Item]) -> Iterator[Leak]:
    if item.sample.group in groups:
        yield Leak(groups[item.sample.group], item, "same group")
    elif (found := index.find(fingerprint(item.sample))) is not None:
        number, reason = found
        yield Leak(before[number], item, reason)


def settle_leaks(splits: Mapping[str, Sequence[Item]], fixed: Set[str], likeness: float) -> tuple[dict[str, list[Item]], list[Settled]]:
    """Return splits without leaks, and what was done about each.

    `fixed` names the sources whose samples stay in their split. Each round takes a group nearer to training or a sample away, so it ends.
    """
    current = {split: list(items) for split, items in splits.items()}
    settled: list[Settled] = []
    while leaks := list(find_leaks(current, likeness)):
        moving: dict[str, str] = {}
        going: dict[int, Item] = {}
        for leak in leaks:
            if leak.later.sample.source not in fixed:
                moving.setdefault(leak.later.sample.group, _split_of(leak.earlier, current))
                settled.append(Settled(leak.reason, MOVED, None))
            elif going.setdefault(id(leak.earlier), leak.earlier) is leak.earlier:
                settled.append(Settled(leak.reason, REMOVED, leak.earlier))
        current = _rearranged(current, moving, going.keys(), fixed)
    return current, settled


def _split_of(item: Item, splits: Mapping[str, Sequence[Item]]) -> str:
    return next(split for split, items in splits.items() if any(each is item for each in items))


def _rearranged(splits: Mapping[str, Sequence[Item]], moving: Mapping[str, str], going: Set[int], fixed: Set[str]) -> dict[str, list[Item]]:
    arranged: dict[str, list[Item]] = {split: [] for split in splits}
    for split, items in splits.items():
        for item in items:
            if id(item) not in going:
                to = split if item.sample.source in fixed else moving.get(item.sample.group, split)
                arranged[to].append(item)
    return arranged
