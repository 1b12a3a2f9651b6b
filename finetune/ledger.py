"""The account of a preparation: of every source, how many rows were read, and what became of them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from finetune.dataset import Dropped
from finetune.samples import Sample


@dataclass(frozen=True, slots=True)
class Item:
    """A sample on its way, with the place where it comes from."""

    sample: Sample
    file: str
    line: int


@dataclass(slots=True)
class Tally:
    """What became of the rows of one source."""

    rows: int = 0
    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Ledger:
    """The tallies of all sources, and one line for everything that was dropped."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)

    def tally(self, source: str) -> Tally:
        """Return the tally of a source."""
        return self.tallies.setdefault(source, Tally())

    def drop(self, source: str, file: str, line: int, reason: str) -> None:
        """Count a row or sample that does not stay."""
        self.tally(source).dropped[reason] += 1
        self.dropped.append(Dropped(source, file, line, reason))

    def drop_item(self, item: Item, reason: str) -> None:
        """Count a sample that does not stay."""
        self.drop(item.sample.source, item.file, item.line, reason)

    def change(self, source: str, reasons: Iterable[str]) -> None:
        """Count a sample that was changed, once for each reason."""
        self.tally(source).changed.update(reasons)
