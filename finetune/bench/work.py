"""What a process of the bench is told, and what it says back: plain values, as JSON files. Knows no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from finetune.config import LoraSection, Section
from finetune.rendering import Row

OURS: Final = "kefu"
TRL_DEFAULT: Final = "trl default"
TRL_TUNED: Final = "trl tuned"
ARMS: Final = (TRL_DEFAULT, TRL_TUNED, OURS)
TRL_BATCH: Final = 8  # rows of one step by TRL's defaults; packed arms take as many packs as hold about so many


class StoredRow(Section):
    """A row, as it lies in a file."""

    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]

    def row(self) -> Row:
        """Return it as what is trained."""
        return Row(self.ids, self.loss_mask)


class Data(Section):
    """What all arms train and are judged by."""

    train: tuple[StoredRow, ...]
    held_out: tuple[StoredRow, ...]

    @classmethod
    def of(cls, train: Sequence[Row], held_out: Sequence[Row]) -> "Data":
        """Return rows as a file takes them."""
        stored = [tuple(StoredRow(ids=row.ids, loss_mask=row.loss_mask) for row in rows) for rows in (train, held_out)]
        return cls(train=stored[0], held_out=stored[1])


class Terms(Section):
    """What is the same for all arms. The schedule is a constant learning rate, so that losses can be compared at any place."""

    folder: Path  # of the model, as transformers reads it
    end_token: str  # TRL pads with it where the model has no padding token
    data: Path  # file with `Data`
    lora: LoraSection = LoraSection()
    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0
    row_tokens: int = 512  # capacity of a pack
    packs_at_once: int = 1  # packs of one forward pass
    threads: int | None = None  # of torch; None = as it likes


class Work(Section):
    """One arm of one round."""

    arm: str
    seed: int
    terms: Terms


class Step(Section):
    """One optimiser step."""

    seconds: float  # since the last one ended; of the first step: with everything that happens before it
    loss: float  # nats per trained token
    trained: int  # tokens that the loss counts
    tokens: int  # of all rows
    places: int  # that were computed, padding included


class Measured(Section):
    """What one process measured."""

    arm: str
    seed: int
    steps: tuple[Step, ...]
    held_out_loss: float  # nats per trained token, after the last step
    peak_memory_mib: float  # of the process; on CUDA, of what torch allocated on the device
    flops: float  # that the model's mathematics needs for all rows
    matrix_flops_per_s: float  # of a large matrix product in the same process
    device: str

    @property
    def trained_tokens(self) -> int:
        """Tokens that the losses of all steps counted."""
        return sum(step.trained for step in self.steps)
