"""The border between the evaluator and what computes losses: rows of one kind of model in, nats out. Knows no torch."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from finetune.evaluation.contenders import Contender


class TrainedRow(Protocol):
    """What a model is trained on: the row of a decoder, or the pair of an encoder–decoder."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        ...


R = TypeVar("R", bound=TrainedRow)
R_contra = TypeVar("R_contra", bound=TrainedRow, contravariant=True)


class LossMeter(Protocol[R_contra]):
    """What measures the loss of one contender."""

    def measure(self, contender: Contender, rows: Sequence[R_contra]) -> Iterator[float]:
        """Yield for each row the sum of the losses of its trained tokens, in nats."""
        ...
