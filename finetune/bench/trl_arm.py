"""TRL's SFTTrainer as two arms of the bench: with its defaults, and tuned as its documentation advises.

Both get the ids that the chat renders, and labels at the tokens that the loss counts: TRL's own way to the same tokens, a template
with marks around replies, needs a template of TRL's. What differs from the defaults in both: the learning rate and its schedule,
without which losses could not be compared; float32 on a CPU, where the default of bfloat16 is many times slower; and that every
step is logged.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import datasets
import torch
import transformers
import trl

from finetune.bench.meter import Counted, Meter, Size
from finetune.bench.own_arm import packs_per_step
from finetune.bench.work import TRL_TUNED, Step, Terms, Work
from finetune.rendering import Row
from finetune.training.packing import pack_rows

IGNORED = -100  # the label of a token that the loss does not count


class _Ends(transformers.TrainerCallback):
    """Tells the meter when a step is over."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ARG002
        if logs and "loss" in logs:
            self._meter.step(logs["loss"])


def train_trl(model: Any, rows: Sequence[Row], work: Work) -> tuple[Step, ...]:
    """Train one pass over the rows with SFTTrainer. The model carries the adapter already."""
    terms, meter = work.terms, Meter()
    tuned = _tuned(rows, terms) if work.arm == TRL_TUNED else {}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(terms.folder / "tokenizer.json"), eos_token=terms.end_token)
    with tempfile.TemporaryDirectory(dir=terms.data.parent) as folder:
        trainer = trl.SFTTrainer(
            model, trl.SFTConfig(folder, **_common(work), **tuned), train_dataset=_dataset(rows), processing_class=tokenizer
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(_Ends(meter))
        collate: Any = trainer.data_collator
        trainer.data_collator = Counted(collate, _size, meter)
        trainer.train()
        return meter.steps(trainer.args.gradient_accumulation_steps)


def _common(work: Work) -> dict[str, Any]:
    return {
        "seed": work.seed,
        "learning_rate": work.terms.learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": work.terms.max_grad_norm,
        "num_train_epochs": 1,
        "bf16": torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        "max_length": work.terms.row_tokens,  # no row is longer
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _tuned(rows: Sequence[Row], terms: Terms) -> dict[str, Any]:
    """Return what makes it fast: best-fit packs of our size, as many a step as we take, and no activation computed twice."""
    packs = len(pack_rows(rows, terms.row_tokens))
    return {
        "packing": True,
        "packing_strategy": "bfd",
        "gradient_checkpointing": False,
        "per_device_train_batch_size": terms.packs_at_once,
        "gradient_accumulation_steps": packs_per_step(packs, len(rows), terms.packs_at_once) // terms.packs_at_once,
    }


def _dataset(rows: Sequence[Row]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": [labels(row) for row in rows]})


def labels(row: Row) -> list[int]:
    """Return the ids of the tokens that the loss counts, and -100 for the others; the first token is predicted by nothing."""
    return [token if counts and place else IGNORED for place, (token, counts) in enumerate(zip(row.ids, row.loss_mask, strict=True))]


def _size(examples: Sequence[Any], batch: Any) -> Size:
    trained = int((batch["labels"] != IGNORED).sum())
    return Size(trained, sum(len(example["input_ids"]) for example in examples), batch["input_ids"].numel())
