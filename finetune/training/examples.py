"""From the samples of a dataset to packs: rendered by the way of the chat, counted where a sample has no row."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from finetune.errors import DatasetInvalid
from finetune.rendering import Row, RowRenderer, Unrenderable, windows
from finetune.samples import Sample
from finetune.training.packing import Pack, fill_rate, pack_rows


@dataclass(frozen=True, slots=True)
class Rendered:
    """The rows of some samples."""

    rows: tuple[Row, ...]
    left_out: dict[str, int] = field(default_factory=dict)  # reason → samples without a row

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return sum(row.trained_tokens for row in self.rows)


@dataclass(frozen=True, slots=True)
class Examples:
    """What a decoder is trained on."""

    packs: tuple[Pack, ...]
    rows: int
    trained_tokens: int  # of one epoch
    fill_rate: float  # share of the packs that is no padding
    left_out: dict[str, int]


def render(samples: Iterable[Sample], renderer: RowRenderer) -> Rendered:
    """Return the rows of samples; a dialogue that is too long for one row is cut between turns."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for sample in samples:
        pieces = windows(sample, renderer)
        try:
            if not pieces:
                renderer.rows(sample)  # says why
            rows += [row for piece in pieces for row in renderer.rows(piece) if row.trained_tokens]
        except Unrenderable as reason:
            left_out[str(reason)] += 1
    return Rendered(tuple(rows), dict(left_out))


def render_some(samples: Sequence[Sample], renderer: RowRenderer) -> Rendered:
    """Like `render`, but raises DatasetInvalid when samples are there and none has a row."""
    rendered = render(samples, renderer)
    if samples and not rendered.rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in rendered.left_out.items())
        raise DatasetInvalid(f"None of the {len(samples)} samples can be trained: {reasons}.", hint="Raise train.row_tokens in the recipe.")
    return rendered


def packed(rendered: Rendered, row_tokens: int, *, together: bool = True) -> Examples:
    """Return the packs of rows; each row is a pack of its own unless they may lie `together`."""
    packs = pack_rows(rendered.rows, row_tokens) if together else [Pack((row,)) for row in rendered.rows]
    return Examples(tuple(packs), len(rendered.rows), rendered.trained_tokens, fill_rate(packs, row_tokens), rendered.left_out)
