"""Which stretches of a row of places are taken. Pure; places are numbered from 0."""

from bisect import insort


class TokenRanges:
    """`size` places, handed out in stretches; the first that is long enough is taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[tuple[int, int]] = [(0, size)]  # (start, end), in order, never touching one another

    @property
    def free_places(self) -> int:
        """How many places nobody holds."""
        return sum(end - start for start, end in self._free)

    def take(self, count: int) -> int | None:
        """Take `count` places in a row; return the first of them, or None where no stretch is long enough."""
        for index, (start, end) in enumerate(self._free):
            if end - start >= count:
                self._replace(index, start + count, end)
                return start
        return None

    def extend(self, end: int, count: int) -> bool:
        """Take the `count` places from `end` on, if all of them are free."""
        for index, (start, limit) in enumerate(self._free):
            if start == end and limit - start >= count:
                self._replace(index, start + count, limit)
                return True
        return count == 0

    def give(self, start: int, count: int) -> None:
        """Give places back."""
        if count:
            insort(self._free, (start, start + count))
            self._join()

    def _replace(self, index: int, start: int, end: int) -> None:
        self._free[index : index + 1] = [(start, end)] if end > start else []

    def _join(self) -> None:
        joined = self._free[:1]
        for start, end in self._free[1:]:
            if joined[-1][1] == start:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
        self._free = joined
