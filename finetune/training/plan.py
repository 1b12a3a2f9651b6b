"""All that a training process is told, as one file: what, on which data, into which folder.

The file holds no secret, so that it may lie in the run's folder. It is how `accelerate launch` starts the same run on several
devices: each of its processes reads it.
"""

from pathlib import Path

from pydantic import ValidationError

from finetune.config import Recipe, Section
from finetune.errors import TrainingFailed

PLAN_NAME = "plan.json"


class TrainingPlan(Section):
    """One training run, resolved: every path is absolute."""

    recipe: Recipe
    dataset: Path  # folder with train.jsonl, valid.jsonl and manifest.json
    run: Path  # folder that the run is written to
    cache_dir: Path  # models lie below it
    resume: bool = False  # go on from the newest whole checkpoint of the folder

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.run / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The folder that holds the adapter, and nothing that serving refuses."""
        return self.run / "adapter"


def write_plan(plan: TrainingPlan) -> Path:
    """Write the plan into its run's folder and return the file."""
    plan.run.mkdir(parents=True, exist_ok=True)
    path = plan.run / PLAN_NAME
    path.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    return path


def read_plan(path: Path) -> TrainingPlan:
    """Read a plan. Raises TrainingFailed."""
    try:
        return TrainingPlan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainingFailed(f"{path} is no plan of a training run.", hint="`kefu finetune train` writes one.") from error
