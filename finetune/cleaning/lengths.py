"""How long a reply may be, in characters, and a row, in tokens."""

from typing import Final

from finetune.config import CleanSection
from finetune.rendering import RowRenderer, windows
from finetune.samples import Sample

TOO_LONG: Final = "too long for a row"
CUT: Final = "cut into pieces that fit a row"
PARTLY: Final = "turns too long for a row removed"


def reply_problem(text: str, section: CleanSection) -> str:
    """Return why a reply is not worth learning for its length, "" when it is."""
    if len(text) < section.min_reply_chars:
        return "reply too short"
    return "reply too long" if len(text) > section.max_reply_chars else ""


def fit(sample: Sample, renderer: RowRenderer) -> tuple[list[Sample], str]:
    """Return the pieces of a sample that each fit a row, and what was done; no piece is left of one that cannot fit."""
    pieces = list(windows(sample, renderer))
    if pieces == [sample] or not pieces:
        return pieces, "" if pieces else TOO_LONG
    whole = sum(len(piece.turns) for piece in pieces) == len(sample.turns)
    return pieces, CUT if whole else PARTLY
