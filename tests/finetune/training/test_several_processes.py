"""A run over several processes is the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.training import metrics_file
from finetune.training.run_folder import read_run
from finetune.training.train import begin, train
from tests.finetune.training.tiny import Watched, tiny_plan
from tests.sizes import record_proof, size

ROOT = Path(__file__).parents[3]


def test_two_processes_measure_what_one_measures(tmp_path: Path) -> None:
    """Two processes that share the rows of each step have the losses of one process, and one of them writes."""
    processes = size("training_processes", small=1, proof=2)
    if processes < 2:
        pytest.skip("loads torch twice more: under `make proof`")
    one = tiny_plan(tmp_path)
    begin(one)
    train(one, Watched())
    two = one.model_copy(update={"run": tmp_path / "two"})
    begin(two)
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "-m", "finetune.training.process"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, str(two.run / "plan.json")], cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained tokens an epoch") == 1
    measured = [
        [values[name] for values in metrics_file.read(plan.run) for name in ("loss", "held_out_loss", "trained_tokens") if name in values]
        for plan in (one, two)
    ]
    assert measured[1] == pytest.approx(measured[0], rel=1e-5)
    assert read_run(two.run).result.steps == read_run(one.run).result.steps
    record_proof("training_processes", seed=17, size=processes, result="losses equal those of one process")
