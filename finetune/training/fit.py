"""One training run over any torch model: steps, checkpoints, going on after a crash. What is trained is the caller's matter.

objective + examples + section ─► ObjectiveTrainer ─► the best weights in the model, metrics.jsonl and checkpoints in the folder
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from finetune.config import TrainSection
from finetune.training import checkpoints, metrics_file
from finetune.training.arguments import training_arguments
from finetune.training.callbacks import Display, Interruption, Patience, Recorder, is_exhausted
from finetune.training.faults import explained
from finetune.training.objective import Objective
from finetune.training.schedule import rate_factor
from finetune.training.trainer import ObjectiveTrainer


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained: the model and what it learns. Examples are whatever the objective takes; their order does not matter."""

    model: Any
    objective: Objective
    train: Sequence[Any]
    valid: Sequence[Any]  # empty = nothing is held out: no early stopping, the last weights are kept
    summary: str = ""  # what people are told before the first step, once for all processes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. The model holds the best weights, unless it was interrupted."""

    steps: int  # done in all, before a crash included
    total_steps: int
    held_out_loss: float | None  # the best, nats per trained token
    base_loss: float | None  # the held-out loss before the first step
    train_loss: float | None  # of the last step
    trained_tokens: int  # counted by the loss, of all devices, since this process began
    seconds: float
    step_seconds: float  # of those, without looks at the held-out loss and checkpoints
    interrupted: bool
    is_main: bool  # whether this process is the one that writes


def fit(
    task: Task,
    section: TrainSection,
    seed: int,
    run: Path,
    display: Display,
    *,
    resume: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train. Metrics and checkpoints go into `run`; with `resume` the newest whole checkpoint there is gone on from.

    Raises TrainingFailed and RecipeInvalid. The first Ctrl-C makes a checkpoint and returns.
    """
    folder = run / "checkpoints"
    start = checkpoints.newest_whole(folder) if resume else None
    arguments = training_arguments(section, seed, folder, len(task.train), held_out=bool(task.valid), resumes=start is not None)
    interruption = Interruption()
    callbacks: list[Any] = [interruption, Patience(section.patience)]
    with explained(run):
        trainer = ObjectiveTrainer(
            task.model, task.objective, _schedule(section, arguments.max_steps), arguments, task.train, task.valid, callbacks
        )
        recorder = Recorder(run, display, lambda: trainer.tokens_done)
        trainer.add_callback(recorder)
        if trainer.is_world_process_zero():
            if task.summary:
                tell(task.summary)
            checkpoints.remove_broken(folder)
            metrics_file.cut_after(run, (checkpoints.step_of(start) or 0) if start else -1)
        begun = time.monotonic()
        with interruption.listening(tell):
            _train(trainer, start, section)
    return _outcome(trainer, run, (time.monotonic() - begun, recorder.seconds), interrupted=interruption.asked)


def _schedule(section: TrainSection, steps: int) -> Callable[[int], float]:
    warmup = math.ceil(section.warmup * steps)
    return lambda step: rate_factor(step, steps, warmup, section.schedule)


def _train(trainer: ObjectiveTrainer, start: Path | None, section: TrainSection) -> None:
    """Run the steps that are missing; where none is, only bring back the weights."""
    state = None if start is None else transformers.TrainerState.load_from_json(str(start / checkpoints.STATE_NAME))
    if start is None or state is None or not _is_over(state, section, trainer):
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
        return
    trainer.state = state
    if state.best_model_checkpoint is None:
        trainer._load_from_checkpoint(str(start))
    else:
        trainer._load_best_model()


def _is_over(state: transformers.TrainerState, section: TrainSection, trainer: ObjectiveTrainer) -> bool:
    return state.global_step >= trainer.args.max_steps or is_exhausted(state.log_history, section.patience)


def _outcome(trainer: ObjectiveTrainer, run: Path, seconds: tuple[float, float], *, interrupted: bool) -> Outcome:
    measured = metrics_file.read(run)
    held_out = {values["step"]: values["held_out_loss"] for values in measured if "held_out_loss" in values}
    losses = [values["loss"] for values in measured if "loss" in values]
    total = trainer.args.max_steps
    return Outcome(
        steps=trainer.state.global_step,
        total_steps=total,
        held_out_loss=min((loss for step, loss in held_out.items() if step), default=None),
        base_loss=held_out.get(0),
        train_loss=losses[-1] if losses else None,
        trained_tokens=trainer.tokens_done,
        seconds=seconds[0],
        step_seconds=seconds[1],
        interrupted=interrupted and trainer.state.global_step < total,
        is_main=trainer.is_world_process_zero(),
    )
