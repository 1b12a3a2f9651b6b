"""How well personal data is found: recall and precision for each kind, on texts where people marked it.

The file has the form of presidio-research: one JSON object a line with `full_text` and `spans` of `entity_type`, `start_position` and
`end_position`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from finetune.cleaning.scrub import Scrubber
from finetune.cleaning.spans import Span
from finetune.errors import DataInvalid

# Their types as our kinds. Places, organisations, dates, ages and trades name no person by themselves and stay; so do links to a site.
KINDS: Final[Mapping[str, str]] = {
    "PERSON": "PERSON",
    "STREET_ADDRESS": "ADDRESS",
    "ZIP_CODE": "ADDRESS",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP",
    "US_SSN": "NATIONAL_ID",
    "US_DRIVER_LICENSE": "NATIONAL_ID",
}


@dataclass(frozen=True, slots=True)
class Marked:
    """A text in which people marked personal data."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """How one kind is found."""

    kind: str
    marked: int  # by people
    found: int  # by the scrubber, as this kind
    touched: int  # marked spans that share a character with a found one of the same kind
    exact: int  # marked spans that were found with the same borders and kind
    hidden: int  # marked spans of which no letter or digit is left, whatever the kind
    right: int  # found spans that share a character with a marked one of the same kind

    def shares(self) -> dict[str, float | None]:
        """Return recall and precision by overlap and by exact borders, and the share that is hidden wholly; None = of nothing."""
        of_marked = {"recall": self.touched, "recall_exact": self.exact, "hidden": self.hidden}
        of_found = {"precision": self.right, "precision_exact": self.exact}
        return {name: _share(count, self.marked) for name, count in of_marked.items()} | {
            name: _share(count, self.found) for name, count in of_found.items()
        }


def parse_marked(lines: str, name: str) -> Iterator[Marked]:
    """Yield the texts of a file that people know as `name`. Raises DataInvalid with the line."""
    for number, line in enumerate(lines.split("\n"), start=1):
        if line.strip():
            try:
                yield _marked(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise DataInvalid(name, number, "no text with marked spans", f"{type(error).__name__}: {error}") from None


def _marked(row: Mapping[str, Any]) -> Marked:
    spans = (Span(span["start_position"], span["end_position"], KINDS.get(span["entity_type"], "")) for span in row["spans"])
    return Marked(row["full_text"], tuple(span for span in spans if span.kind))


def measure(texts: Iterable[Marked], scrubber: Scrubber) -> list[Score]:
    """Return one score for each kind that was marked or found, and one for ALL of them."""
    pairs = [(each.text, each.spans, scrubber.find(each.text)) for each in texts]
    kinds = sorted({span.kind for _, marked, found in pairs for span in (*marked, *found)})
    scores = [_score(kind, pairs) for kind in kinds]
    return [*scores, _total(scores)]


def _score(kind: str, pairs: Sequence[tuple[str, Sequence[Span], Sequence[Span]]]) -> Score:
    counts = [0] * 6
    for text, all_marked, all_found in pairs:
        marked = [span for span in all_marked if span.kind == kind]
        found = [span for span in all_found if span.kind == kind]
        here = (
            len(marked),
            len(found),
            sum(_touches(span, found) for span in marked),
            sum(span in found for span in marked),
            sum(_is_hidden(text, span, all_found) for span in marked),
            sum(_touches(span, marked) for span in found),
        )
        counts = [total + count for total, count in zip(counts, here, strict=True)]
    return Score(kind, *counts)


def _total(scores: Sequence[Score]) -> Score:
    columns = zip(*((s.marked, s.found, s.touched, s.exact, s.hidden, s.right) for s in scores), strict=True)
    return Score("ALL", *(sum(column) for column in columns)) if scores else Score("ALL", 0, 0, 0, 0, 0, 0)


def _touches(span: Span, others: Sequence[Span]) -> bool:
    return any(span.overlaps(other) for other in others)


def _is_hidden(text: str, span: Span, found: Sequence[Span]) -> bool:
    covered = {place for other in found for place in range(other.start, other.end)}
    return all(place in covered for place in range(span.start, span.end) if text[place].isalnum())


def _share(count: int, total: int) -> float | None:
    return round(count / total, 4) if total else None
