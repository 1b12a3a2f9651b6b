"""One arm of one round, in a process of its own: `python -m finetune.bench.child WORK.json RESULT.json`.

Of its own, so that its peak of memory is its own, and nothing that one library patches reaches another arm.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from finetune.bench.flops import count_weights, matrix_rate, model_flops
from finetune.bench.meter import peak_memory_mib
from finetune.bench.work import OURS, Data, Measured, Terms, Work
from finetune.lazy import load
from finetune.rendering import Row
from finetune.training.base_model import load_weights
from finetune.training.lora import attach
from finetune.training.objective import DecoderObjective
from finetune.training.packing import Pack


def run_arm(work: Work) -> Measured:
    """Train as told, then measure what is measured without hurry."""
    if work.terms.threads is not None:
        torch.set_num_threads(work.terms.threads)
    data = Data.model_validate_json(work.terms.data.read_bytes())
    rows, held_out = ([stored.row() for stored in part] for part in (data.train, data.held_out))
    model = _adapted(work.terms, work.seed)
    weights = count_weights(model)
    steps = _trainer(work.arm)(model, rows, work)
    peak = peak_memory_mib()
    return Measured(
        arm=work.arm,
        seed=work.seed,
        steps=steps,
        held_out_loss=held_out_loss(model, held_out),
        peak_memory_mib=peak,
        flops=model_flops(rows, weights),
        matrix_flops_per_s=matrix_rate(model.device),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads",
    )


def _adapted(terms: Terms, seed: int) -> Any:
    model = load_weights(terms.folder)
    transformers.set_seed(seed)
    return attach(model, terms.lora)


def _trainer(arm: str) -> Any:
    return load("finetune.bench.own_arm").train_ours if arm == OURS else load("finetune.bench.trl_arm").train_trl


def held_out_loss(model: Any, rows: Sequence[Row]) -> float:
    """Return the mean loss in nats per trained token, each row computed alone."""
    objective, total, count = DecoderObjective(), 0.0, 0
    model.eval()
    for row in rows:
        batch = {name: tensor.to(model.device) for name, tensor in objective.collate([Pack((row,))]).items()}
        with torch.no_grad():
            total += float(objective.loss(model, batch))
        count += objective.trained_tokens(batch)
    return total / max(1, count)


def main(arguments: Sequence[str]) -> int:
    """Do the work in the first file, write what was measured into the second."""
    work, result = (Path(argument) for argument in arguments)
    measured = run_arm(Work.model_validate_json(work.read_bytes()))
    result.write_text(measured.model_dump_json(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
