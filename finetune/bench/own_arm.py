"""Kefu's training as an arm of the bench: what `kefu finetune train` runs, without looks at the held-out loss."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.bench.meter import Counted, Meter, Size
from finetune.bench.work import TRL_BATCH, Step, Terms, Work
from finetune.config import TrainSection
from finetune.rendering import Row
from finetune.training.batches import Batch
from finetune.training.fit import Task, fit
from finetune.training.isolation import keeps_apart
from finetune.training.objective import DecoderObjective
from finetune.training.packing import Pack, pack_rows

_NEVER = 1_000_000  # steps


class MeteredObjective(DecoderObjective):
    """The objective of decoders, measured."""

    def __init__(self, meter: Meter) -> None:
        self._counted = Counted(super().collate, _size, meter)

    def collate(self, examples: Sequence[Pack]) -> Batch:
        return self._counted(examples)


class MeterDisplay:
    """A display that nobody looks at but the meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:  # noqa: ARG002 - the port's
        """Count a step."""
        self._meter.step(loss)

    def held_out(self, done: int, loss: float) -> None:
        """Nothing is held out."""


def train_ours(model: Any, rows: Sequence[Row], work: Work) -> tuple[Step, ...]:
    """Train one pass over the rows. Raises TrainingFailed."""
    terms, meter = work.terms, Meter()
    packs = pack_rows(rows, terms.row_tokens) if keeps_apart(model, rows) else [Pack((row,)) for row in rows]
    per_step = packs_per_step(len(packs), len(rows), terms.packs_at_once)
    with tempfile.TemporaryDirectory(dir=terms.data.parent) as folder:
        fit(Task(model, MeteredObjective(meter), packs, ()), _section(terms, per_step), work.seed, Path(folder), MeterDisplay(meter))
    return meter.steps(per_step // terms.packs_at_once)


def packs_per_step(packs: int, rows: int, at_once: int) -> int:
    """Return the packs of one step, so that there are about as many steps as TRL's defaults make of the rows."""
    steps = -(-rows // TRL_BATCH)
    return -(-packs // steps // at_once) * at_once


def _section(terms: Terms, per_step: int) -> TrainSection:
    return TrainSection(
        lora=terms.lora,
        row_tokens=terms.row_tokens,
        rows_per_step=per_step,
        rows_per_device=terms.packs_at_once,
        learning_rate=terms.learning_rate,
        max_grad_norm=terms.max_grad_norm,
        schedule="constant",
        warmup=0,
        evaluate_every=_NEVER,
    )


def _size(packs: Sequence[Pack], batch: Batch) -> Size:
    return Size(batch["targets"].numel(), sum(pack.length for pack in packs), batch["input_ids"].numel())
