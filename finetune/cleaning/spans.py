"""Where personal data stands in a text, and which find wins when two overlap."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

PLACEHOLDER: Final = re.compile(r"\[[A-Z]+(?:_[A-Z]+)*\]")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data: text[start:end]."""

    start: int
    end: int
    kind: str  # stands in the placeholder: EMAIL becomes [EMAIL]

    def overlaps(self, other: "Span") -> bool:
        """Whether the two share a character."""
        return self.start < other.end and other.start < self.end


def choose(found: Iterable[Span], taken: Sequence[Span]) -> list[Span]:
    """Return the spans that touch neither `taken` nor an earlier one of `found`, in the order of the text."""
    chosen: list[Span] = []
    for span in found:
        if not any(span.overlaps(other) for other in (*taken, *chosen)):
            chosen.append(span)
    return sorted(chosen, key=lambda span: span.start)
