"""How a run is counted: steps, learning rate, looks at the held-out loss, checkpoints, measured lines."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.config import TrainSection
from finetune.errors import RecipeInvalid, TrainingFailed
from finetune.training import checkpoints, metrics_file
from finetune.training.arguments import total_steps, training_arguments
from finetune.training.callbacks import check_finite, is_exhausted
from finetune.training.curve import draw
from finetune.training.schedule import rate_factor


@given(st.integers(1, 500), st.floats(0, 0.9), st.sampled_from(["cosine", "constant"]))
def test_the_learning_rate_rises_then_falls(total: int, warmup_share: float, kind: Any) -> None:
    """Every step has a positive rate of at most the recipe's; it rises while warming up, and never afterwards."""
    warmup = math.ceil(total * warmup_share)
    factors = [rate_factor(step, total, warmup, kind) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


@pytest.mark.parametrize(
    ("packs", "epochs", "most", "steps"), [(10, 1, None, 3), (10, 2, None, 6), (10, 0.5, None, 2), (10, 9, 4, 4), (1, 1, None, 1)]
)
def test_steps_of_a_run(packs: int, epochs: float, most: int | None, steps: int) -> None:
    """A run takes as many steps as its epochs have, the last one of each smaller, and never more than max_steps."""
    assert total_steps(TrainSection(epochs=epochs, rows_per_step=4, max_steps=most), packs) == steps


def test_rows_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    """A step that is no multiple of what is computed at once is refused with both settings."""
    with pytest.raises(RecipeInvalid, match=r"rows_per_step = 4 .*rows_per_device = 3"):
        training_arguments(TrainSection(rows_per_step=4, rows_per_device=3), 1, tmp_path, 10, held_out=True, resumes=False)


@pytest.mark.parametrize(
    ("losses", "looks", "over"),
    [
        ([3, 2, 1], 2, False),
        ([3, 2, 2.5, 2.1], 2, True),
        ([3, 2, 2.5], 2, False),
        ([2, 2], 1, True),
        ([3, 4, 5, 6], 0, False),
        ([], 2, False),
    ],
)
def test_patience(losses: list[float], looks: int, over: bool) -> None:
    """Patience ends after so many looks without an improvement over the best before them; 0 never ends."""
    log = [{"loss": 9.0}, *({"eval_loss": loss, "step": 1.0} for loss in losses)]
    assert is_exhausted(log, looks) is over


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_the_setting(value: float) -> None:
    """NaN and infinity end a run with the setting to change."""
    with pytest.raises(TrainingFailed, match="loss of step 7 is no number") as caught:
        check_finite(7, {"loss": value})
    assert "train.learning_rate" in caught.value.hint


def test_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    """A checkpoint that was cut off is passed over and removed; order is by number, not by name."""
    for number, state in ((9, '{"global_step": 9}'), (10, '{"global_step": 10}'), (11, '{"global_st'), (12, None)):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-best").mkdir()
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "checkpoint-10"
    checkpoints.remove_broken(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9", "checkpoint-best"]
    assert checkpoints.newest_whole(tmp_path / "nothing") is None


def test_measured_lines(tmp_path: Path) -> None:
    """Lines are appended; a broken last line is forgotten, and so is what was measured after the step that a run goes on from."""
    for step in range(4):
        metrics_file.append(tmp_path, {"step": step, "loss": 1.0})
    with (tmp_path / metrics_file.METRICS_NAME).open("a") as file:
        file.write('{"step": 4, "lo')
    metrics_file.cut_after(tmp_path, 2)
    assert [values["step"] for values in metrics_file.read(tmp_path)] == [0, 1, 2]
    assert all(json.loads(line) for line in (tmp_path / metrics_file.METRICS_NAME).read_text().splitlines())


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "held_out_loss": 1.5}]])
def test_the_curve_is_a_picture(tmp_path: Path, metrics: list[dict[str, Any]]) -> None:
    """The learning curve is a PNG, for a run without a step too."""
    draw(metrics, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
