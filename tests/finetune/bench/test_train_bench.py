"""The whole bench on a tiny model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dialogue.engine.models import PUBLIC_SOURCES
from finetune.bench.child import main, run_arm
from finetune.bench.train_bench import BenchSize, Setting, in_process, run_bench
from finetune.bench.work import ARMS, OURS, TRL_DEFAULT, TRL_TUNED, Data, Measured, Terms, Work
from finetune.bench.workload import write_tiny_model
from finetune.errors import TrainingFailed
from finetune.rendering import Row
from tests.finetune.training.tiny import write_tiny_dataset

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")  # of TRL


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Two steps of a tiny model on a tiny dataset."""
    dataset = write_tiny_dataset(tmp_path / "data", train=16)
    return Setting(
        model=None, cache_dir=tmp_path / "cache", sources=PUBLIC_SOURCES, size=BenchSize(2, 1), dataset=dataset, row_tokens=512, threads=1
    )


def here(work: Work, _: Path) -> Measured:
    """Run an arm in this process."""
    before = torch.get_num_threads()
    try:
        return run_arm(work)
    finally:
        torch.set_num_threads(before)


def test_all_arms_train_the_same_tokens(setting: Setting, tmp_path: Path) -> None:
    """TRL with its defaults, TRL tuned and ours train equally many tokens, and whoever packs as we do has the very same losses."""
    told: list[str] = []
    result = run_bench(replace(setting, out=tmp_path / "out"), told.append, here)
    assert result["same_trained_tokens"]
    assert result["trained_tokens"][OURS] > 0
    assert result["loss_distance"][TRL_TUNED] == {"curve": pytest.approx(0, abs=1e-3), "held_out": pytest.approx(0, abs=1e-3)}
    assert result["arms"][TRL_DEFAULT]["fill_rate"]["median"] <= result["arms"][OURS]["fill_rate"]["median"]
    assert [line for line in told if line.startswith("round 1")] == [line for line in told if "trained tokens/s" in line]
    assert (tmp_path / "out" / "loss.png").is_file()
    assert json.loads(json.dumps(result))["bench"] == "train"


def test_rounds_change_their_order(setting: Setting) -> None:
    """Arms stand in another order in every second round, and each round has a seed of its own, the same for all arms."""
    seen: list[tuple[str, int]] = []

    def note(work: Work, _: Path) -> Measured:
        seen.append((work.arm, work.seed))
        return _measured(work)

    run_bench(replace(setting, size=BenchSize(2, 2)), lambda _: None, note)
    assert seen == [*((arm, 17) for arm in ARMS), *((arm, 18) for arm in reversed(ARMS))]


def _measured(work: Work) -> Measured:
    step = {"seconds": 1.0, "loss": 1.0, "trained": 1, "tokens": 2, "places": 2}
    values = {"held_out_loss": 1.0, "peak_memory_mib": 1.0, "flops": 1.0, "matrix_flops_per_s": 1.0, "device": "none"}
    return Measured.model_validate({"arm": work.arm, "seed": work.seed, "steps": (step, step), **values})


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Our arm on eight short rows."""
    rows = [Row(tuple(range(5, 25 + number)), (False, *(True,) * (19 + number))) for number in range(8)]
    data = tmp_path / "data.json"
    data.write_text(Data.of(rows, rows[:1]).model_dump_json(), encoding="utf-8")
    folder = write_tiny_model(tmp_path / "model")
    return Work(arm=OURS, seed=1, terms=Terms(folder=folder, end_token="<|im_end|>", data=data, row_tokens=64, threads=1))


def test_a_process_says_what_it_measured(work: Work, tmp_path: Path) -> None:
    """A process of the bench reads its work from a file and writes what it measured into another, and leaves nothing else."""
    order, result = tmp_path / "work.json", tmp_path / "result.json"
    order.write_text(work.model_dump_json(), encoding="utf-8")
    before = set(tmp_path.iterdir())
    assert main([str(order), str(result)]) == 0
    measured = Measured.model_validate_json(result.read_bytes())
    assert measured.trained_tokens == sum(19 + number for number in range(8))
    assert set(tmp_path.iterdir()) - before == {result}


def test_an_arm_that_fails_is_named(work: Work, tmp_path: Path) -> None:
    """When the process of an arm ends with an error, the bench ends with its last words."""
    lost = work.model_copy(update={"terms": work.terms.model_copy(update={"data": tmp_path / "lost.json"})})
    with pytest.raises(TrainingFailed, match=r"'kefu'.*lost\.json"):
        in_process(lost, tmp_path)
