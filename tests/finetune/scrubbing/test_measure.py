"""How well personal data is found is measured as people would count it."""

import json

import pytest

from finetune.cleaning.measure import Marked, Score, measure, parse_marked
from finetune.cleaning.scrub import Scrubber
from finetune.cleaning.spans import Span
from finetune.errors import DataInvalid


def by_kind(*texts: Marked) -> dict[str, Score]:
    """Return the scores by kind."""
    return {score.kind: score for score in measure(texts, Scrubber())}


def test_an_exact_find_counts_everywhere() -> None:
    """A find with the same borders and kind is touched, exact, hidden and right."""
    scores = by_kind(Marked("Mail ann@x.org", (Span(5, 14, "EMAIL"),)))
    assert scores["EMAIL"] == Score("EMAIL", marked=1, found=1, touched=1, exact=1, hidden=1, right=1)
    assert scores["ALL"] == Score("ALL", 1, 1, 1, 1, 1, 1)


def test_half_a_find_is_not_hidden() -> None:
    """A find that covers a part of a name is touched, but neither exact nor hidden."""
    score = by_kind(Marked("Ask Xqz Angela", (Span(4, 14, "PERSON"),)))["PERSON"]
    assert (score.touched, score.exact, score.hidden, score.right) == (1, 0, 0, 1)


def test_a_find_of_another_kind_hides_but_is_wrong() -> None:
    """A number marked as a phone and found as an e-mail address lowers both shares, and yet it is gone."""
    scores = by_kind(Marked("Mail ann@x.org", (Span(5, 14, "PHONE"),)))
    assert scores["PHONE"].shares() == {"recall": 0, "recall_exact": 0, "hidden": 1, "precision": None, "precision_exact": None}
    assert scores["EMAIL"].shares()["precision"] == 0


def test_their_types_are_read_as_our_kinds() -> None:
    """Kinds that name no person by themselves are left out."""
    spans = [
        {"entity_type": "STREET_ADDRESS", "start_position": 0, "end_position": 3},
        {"entity_type": "GPE", "start_position": 4, "end_position": 6},
    ]
    [marked] = parse_marked(json.dumps({"full_text": "abc def", "spans": spans}) + "\n", "f.jsonl")
    assert marked == Marked("abc def", (Span(0, 3, "ADDRESS"),))


@pytest.mark.parametrize("line", ["{", '{"full_text": "x"}', '{"full_text": "x", "spans": [1]}', "[]"])
def test_a_broken_line_is_named(line: str) -> None:
    """A line that is no text with marked spans is reported with its number."""
    with pytest.raises(DataInvalid, match=r"f\.jsonl, line 2: no text with marked spans"):
        list(parse_marked('{"full_text": "x", "spans": []}\n' + line, "f.jsonl"))
