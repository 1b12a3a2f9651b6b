"""Leaks between splits: what is held out must not have been trained on.

A leak is the same group in two splits, the same question with the same answer, or a near duplicate. A group that leaks goes where its
copy is; where a source is only for the test, its copy in training goes instead. So it does for a question with passages: moved, it
would bring passages of held-out articles into training.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from finetune.cleaning.duplicates import Index, exchanges, fingerprint
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
    seen = _Seen(likeness or _DEFAULT_LIKENESS)
    for items in splits.values():
        for item in items:
            if (leak := seen.leak(item)) is not None:
                yield leak
        for item in items:
            seen.add(item)


class _Seen:
    """The splits that came before."""

    def __init__(self, likeness: float) -> None:
        self._items: list[Item] = []
        self._index = Index(likeness)
        self._groups: dict[str, Item] = {}
        self._exchanges: dict[tuple[str, str], Item] = {}

    def add(self, item: Item) -> None:
        self._items.append(item)
        self._index.add(fingerprint(item.sample))
        self._groups.setdefault(item.sample.group, item)
        for exchange in exchanges(item.sample):
            self._exchanges.setdefault(exchange, item)

    def leak(self, item: Item) -> Leak | None:
        if item.sample.group in self._groups:
            return Leak(self._groups[item.sample.group], item, "same group")
        if (copy := self._index.find(fingerprint(item.sample))) is not None:
            return Leak(self._items[copy[0]], item, copy[1])
        known = next((self._exchanges[exchange] for exchange in exchanges(item.sample) if exchange in self._exchanges), None)
        return None if known is None else Leak(known, item, "same question and answer")


def settle_leaks(splits: Mapping[str, Sequence[Item]], fixed: Set[str], likeness: float) -> tuple[dict[str, list[Item]], list[Settled]]:
    """Return splits without leaks, and what was done about each.

    `fixed` names the sources whose samples stay in their split, as samples with passages do. Each round takes a group nearer to
    training or a sample away, so it ends.
    """
    current = {split: list(items) for split, items in splits.items()}
    settled: list[Settled] = []
    while leaks := list(find_leaks(current, likeness)):
        moving: dict[str, str] = {}
        going: dict[int, Item] = {}
        for leak in leaks:
            if not _stays(leak.later, fixed):
                moving.setdefault(leak.later.sample.group, _split_of(leak.earlier, current))
                settled.append(Settled(leak.reason, MOVED, None))
            elif id(leak.earlier) not in going:
                going[id(leak.earlier)] = leak.earlier
                settled.append(Settled(leak.reason, REMOVED, leak.earlier))
        current = _rearranged(current, moving, going.keys(), fixed)
    return current, settled


def _stays(item: Item, fixed: Set[str]) -> bool:
    """Whether a sample cannot change its split. Its passages would take other held-out articles with them into training."""
    return item.sample.source in fixed or bool(item.sample.passages)


def _split_of(item: Item, splits: Mapping[str, Sequence[Item]]) -> str:
    return next(split for split, items in splits.items() if any(each is item for each in items))


def _rearranged(splits: Mapping[str, Sequence[Item]], moving: Mapping[str, str], going: Set[int], fixed: Set[str]) -> dict[str, list[Item]]:
    arranged: dict[str, list[Item]] = {split: [] for split in splits}
    for split, items in splits.items():
        for item in items:
            if id(item) not in going:
                to = split if _stays(item, fixed) else moving.get(item.sample.group, split)
                arranged[to].append(item)
    return arranged
