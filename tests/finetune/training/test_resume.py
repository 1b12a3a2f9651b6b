"""Runs that are stopped in the middle go on, and end where an unbroken run ends."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from finetune.training import metrics_file
from finetune.training.plan import TrainingPlan, write_plan
from finetune.training.train import begin, train
from tests.finetune.training.tiny import Watched, tiny_plan
from tests.sizes import record_proof, size

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, Any] = {"epochs": 4, "lora": {"dropout": 0.1}}  # with dropout, so that random states matter too


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> TrainingPlan:
    """A run that nothing stopped."""
    plan = tiny_plan(tmp_path_factory.mktemp("unbroken"), **SETTINGS)
    begin(plan)
    train(plan, Watched())
    return plan


def beside(unbroken: TrainingPlan, place: Path) -> TrainingPlan:
    """Return the plan of the same run in another folder."""
    return unbroken.model_copy(update={"run": place / "run"})


def assert_equal_runs(one: TrainingPlan, other: TrainingPlan) -> None:
    """Both measured the same losses, each step once, and saved the same weights."""
    for name in ("loss", "held_out_loss"):
        measured = [[(values["step"], values[name]) for values in metrics_file.read(plan.run) if name in values] for plan in (one, other)]
        assert measured[0] == measured[1]
    weights = [load_file(plan.adapter / "adapter_model.safetensors") for plan in (one, other)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0].keys() | weights[1].keys())


def test_a_killed_run_goes_on(unbroken: TrainingPlan, tmp_path: Path) -> None:
    """After kill -9 at a random step, --resume gives the losses and the weights of an unbroken run."""
    seed = 4
    times = size("training_kills", small=1, proof=12)
    steps = [random.Random(seed + number).randrange(3, 12) for number in range(times)]
    for step in steps:
        plan = beside(unbroken, tmp_path / str(step))
        begin(plan)
        command = [sys.executable, "-m", "tests.finetune.training.killed_child", str(plan.run / "plan.json"), str(step)]
        killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (plan.run / "run.json").exists()
        resumed = plan.model_copy(update={"resume": True})
        begin(resumed)
        watched = Watched()
        train(resumed, watched)
        assert len(watched.losses) < len([values for values in metrics_file.read(unbroken.run) if "loss" in values])
        assert_equal_runs(unbroken, resumed)
        shutil.rmtree(plan.run)
    record_proof("training_kills", seed=seed, size=times, result=f"killed at steps {steps}: losses and weights equal each time")


class Interrupting(Watched):
    """Presses Ctrl-C after some steps."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self._steps = steps

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        super().step(done, total, loss, tokens_per_s)
        for _ in range(self._steps.count(done)):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_makes_a_checkpoint(unbroken: TrainingPlan, tmp_path: Path) -> None:
    """Ctrl-C ends a run after its step with a checkpoint there and no adapter; --resume ends like an unbroken run."""
    plan = beside(unbroken, tmp_path)
    begin(plan)
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    outcome = train(plan, Interrupting(5), tell=told.append)
    assert outcome.interrupted
    assert (plan.checkpoints / f"checkpoint-{outcome.steps}").is_dir()
    assert not plan.adapter.exists()
    assert "Ctrl-C again" in told[-1]
    assert signal.getsignal(signal.SIGINT) is before
    resumed = plan.model_copy(update={"resume": True})
    assert not train(resumed, Watched()).interrupted
    assert_equal_runs(unbroken, resumed)


def test_the_second_ctrl_c_ends_at_once(unbroken: TrainingPlan, tmp_path: Path) -> None:
    """Who presses Ctrl-C twice does not wait."""
    plan = beside(unbroken, tmp_path)
    begin(plan)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(plan, Interrupting(3, 3))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_was_over_is_only_finished(unbroken: TrainingPlan, tmp_path: Path) -> None:
    """A run that was killed after its last step is not trained further: the best weights are brought back and saved."""
    plan = beside(unbroken, tmp_path)
    shutil.copytree(unbroken.run, plan.run)
    (plan.run / "run.json").unlink()
    shutil.rmtree(plan.adapter)
    resumed = plan.model_copy(update={"resume": True})
    write_plan(resumed)
    watched = Watched()
    train(resumed, watched)
    assert watched.losses == []
    assert_equal_runs(unbroken, resumed)


def test_a_checkpoint_that_was_cut_off_is_passed_over(unbroken: TrainingPlan, tmp_path: Path) -> None:
    """A checkpoint without its end, as a full disk leaves it, is removed, and the one before is gone on from."""
    plan = beside(unbroken, tmp_path)
    begin(plan)
    train(plan, Interrupting(5))
    broken = plan.checkpoints / "checkpoint-9"
    shutil.copytree(plan.checkpoints / "checkpoint-4", broken)
    (broken / "trainer_state.json").write_text('{"global_step": 9, "log_h')
    resumed = plan.model_copy(update={"resume": True})
    train(resumed, Watched())
    assert_equal_runs(unbroken, resumed)
