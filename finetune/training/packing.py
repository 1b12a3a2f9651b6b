"""Whole rows side by side in packs of a fixed size, so that little is computed for padding. Pure.

Best fit decreasing: the longest row first, each into the fullest pack that still has room. That fills within a few percent
of what is possible (Johnson 1973: at most 11/9 of the fewest packs, and a constant).
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.rendering import Row


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows that are computed in one go. They neither see nor predict one another."""

    rows: tuple[Row, ...]

    @property
    def length(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def ids(self) -> list[int]:
        """Token ids, row after row."""
        return [token for row in self.rows for token in row.ids]

    @property
    def position_ids(self) -> list[int]:
        """The place of each token in its own row; where it falls back to 0, the next row begins."""
        return [position for row in self.rows for position in range(len(row.ids))]

    @property
    def trained(self) -> list[tuple[int, int]]:
        """(place in the pack, token that is to be predicted there) for each token that the loss counts.

        The first token of a row is predicted by nothing, so it is never trained.
        """
        result: list[tuple[int, int]] = []
        start = 0
        for row in self.rows:
            result += [(start + place - 1, row.ids[place]) for place in range(1, len(row.ids)) if row.loss_mask[place]]
            start += len(row.ids)
        return result


def pack_rows(rows: Sequence[Row], capacity: int) -> list[Pack]:
    """Return every row once, in packs of at most `capacity` tokens.

    The same rows give the same packs. Raises ValueError for a row that is longer than a pack, or empty.
    """
    packs: list[list[Row]] = []
    room: list[tuple[int, int]] = []  # (free tokens, number of the pack), sorted
    for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
        needed = len(row.ids)
        if not 0 < needed <= capacity:
            raise ValueError(f"a row of {needed} tokens does not fit into {capacity}")
        place = bisect.bisect_left(room, (needed, -1))
        if place == len(room):
            free, number = capacity, len(packs)
            packs.append([])
        else:
            free, number = room.pop(place)
        packs[number].append(row)
        if free > needed:
            bisect.insort(room, (free - needed, number))
    return [Pack(tuple(pack)) for pack in packs]


def fill_rate(packs: Sequence[Pack], capacity: int) -> float:
    """Return the share of the packs' places that hold a token, 0 to 1."""
    return sum(pack.length for pack in packs) / (capacity * len(packs)) if packs else 0.0
