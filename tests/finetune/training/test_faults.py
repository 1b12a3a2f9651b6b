"""What breaks a run is said in a sentence that names the setting to change."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from finetune.errors import TrainingFailed
from finetune.training.batches import Batch
from finetune.training.checkpoints import newest_whole
from finetune.training.faults import explained
from finetune.training.objective import DecoderObjective
from finetune.training.train import begin, train
from tests.finetune.training.tiny import Watched, tiny_plan

MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    MemoryError(),
)
DISK = (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"))


@pytest.mark.parametrize(("error", "setting"), [*((error, "train.row_tokens") for error in MEMORY), *((error, "--out") for error in DISK)])
def test_full_memory_and_disk(tmp_path: Path, error: Exception, setting: str) -> None:
    """Out of memory and a full disk name what to change; the cause is kept for --debug."""
    with pytest.raises(TrainingFailed, match="is full") as caught, explained(tmp_path):
        raise error
    assert setting in caught.value.hint
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), RuntimeError("a defect"), KeyError("x")])
def test_other_errors_pass(tmp_path: Path, error: Exception) -> None:
    """What is neither is not dressed up as one of them."""
    with pytest.raises(type(error)), explained(tmp_path):
        raise error


def test_memory_that_runs_out_in_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that runs out of memory ends with TrainingFailed."""

    def fail(_: DecoderObjective, model: nn.Module, batch: Batch) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DecoderObjective, "loss", fail)
    plan = tiny_plan(tmp_path)
    begin(plan)
    with pytest.raises(TrainingFailed, match="memory is full"):
        train(plan, Watched())


class Poisoned(DecoderObjective):
    """Loses its mind after some batches."""

    def __init__(self) -> None:
        self._calls = 0

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        self._calls += 1
        return super().loss(model, batch) * (float("nan") if self._calls > 12 else 1)


def test_a_loss_that_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose loss becomes NaN ends before a checkpoint is made of it; the one before it is kept."""
    plan = tiny_plan(tmp_path, evaluate_every=1)
    begin(plan)
    monkeypatch.setattr("finetune.training.train.DecoderObjective", Poisoned)
    with pytest.raises(TrainingFailed, match="is no number") as caught:
        train(plan, Watched())
    assert "train.learning_rate" in caught.value.hint
    assert newest_whole(plan.checkpoints) is not None
    monkeypatch.undo()
    resumed = plan.model_copy(update={"resume": True})
    assert train(resumed, Watched()).steps == 6


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every longer write to a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [2_000, 70_000])
def test_a_disk_that_runs_full_in_a_run(tmp_path: Path, size: int) -> None:
    """When the adapter or the optimiser's state cannot be written, the run ends with TrainingFailed, and goes on once there is room."""
    plan = tiny_plan(tmp_path)
    begin(plan)
    with pytest.raises(TrainingFailed, match=r"disk of .* is full"), files_of_at_most(size):
        train(plan, Watched())
    resumed = plan.model_copy(update={"resume": True})
    assert train(resumed, Watched()).steps == 6
