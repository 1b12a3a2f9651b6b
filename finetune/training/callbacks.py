"""What happens beside the optimisation: measured values are written down, shown and looked at; Ctrl-C ends a run in good order."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import transformers

from finetune.errors import TrainingFailed
from finetune.training import metrics_file
from finetune.training.trainer import HELD_OUT_LOSS


class Display(Protocol):
    """Where a run is watched."""

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        """One optimiser step is over."""
        ...

    def held_out(self, done: int, loss: float) -> None:
        """The held-out loss was looked at."""
        ...


class Recorder(transformers.TrainerCallback):
    """Writes metrics and shows them. Raises TrainingFailed at a loss that is no number, before a checkpoint is made of it."""

    def __init__(self, run: Path, display: Display, tokens_done: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._display = display
        self._tokens_done = tokens_done
        self._clock = clock
        self._begun = clock()
        self.seconds = 0.0  # in steps, without looks at the held-out loss and checkpoints

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - the Trainer's interface
        self._begun = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self.seconds += self._clock() - self._begun

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ARG002
        logs = logs or {}
        if "loss" in logs:
            self._on_step(state, logs)
        elif HELD_OUT_LOSS in logs:
            self._on_held_out(state, logs[HELD_OUT_LOSS])

    def _on_step(self, state: Any, logs: dict[str, float]) -> None:
        tokens = self._tokens_done()
        values = {name: logs[name] for name in ("loss", "learning_rate", "grad_norm") if name in logs}
        check_finite(state.global_step, values)
        if state.is_world_process_zero:
            times = {"trained_tokens": tokens, "seconds": round(self.seconds, 3)}
            metrics_file.append(self._run, {"step": state.global_step, **values, **times})
            self._display.step(state.global_step, state.max_steps, logs["loss"], tokens / self.seconds if self.seconds else 0.0)

    def _on_held_out(self, state: Any, loss: float) -> None:
        check_finite(state.global_step, {"held-out loss": loss})
        if state.is_world_process_zero:
            metrics_file.append(self._run, {"step": state.global_step, "held_out_loss": loss})
            self._display.held_out(state.global_step, loss)


class Patience(transformers.TrainerCallback):
    """Ends a run after so many looks at the held-out loss in a row that were no better.

    Its memory is the Trainer's log, which is part of each checkpoint.
    """

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if is_exhausted(state.log_history, self._looks):
            control.should_training_stop = True


class Interruption(transformers.TrainerCallback):
    """Lets a run end after the step that it is in, with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    @contextmanager
    def listening(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Take the first Ctrl-C as a wish; the second ends the program at once."""

        def ask(signum: int, frame: FrameType | None) -> None:
            if self.asked:
                signal.default_int_handler(signum, frame)
            self.asked = True
            tell("Stopping after this step; Ctrl-C again stops at once.")

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def is_exhausted(log: Sequence[Mapping[str, float]], looks: int) -> bool:
    """Whether the last `looks` held-out losses of a log were no better than the best before them; never for 0."""
    losses = [entry[HELD_OUT_LOSS] for entry in log if HELD_OUT_LOSS in entry]
    return 0 < looks < len(losses) and min(losses[-looks:]) >= min(losses[:-looks])


def check_finite(step: int, values: dict[str, float]) -> None:
    """Raise TrainingFailed for a value that is no number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingFailed(
                f"The {name} of step {step} is no number ({value}).",
                hint="Lower train.learning_rate, or train.max_grad_norm; the last checkpoint is from before.",
            )
