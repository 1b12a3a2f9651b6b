"""Runs a plan and kills itself as soon as a step was measured: `python -m tests.finetune.training.killed_child PLAN STEP`."""

import os
import signal
import sys
from pathlib import Path

from finetune.training.plan import read_plan
from finetune.training.train import train


class Killer:
    """A display that ends the process as a power cut would."""

    def __init__(self, at: int) -> None:
        self._at = at

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        if done == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def held_out(self, done: int, loss: float) -> None:
        """Look away."""


if __name__ == "__main__":
    train(read_plan(Path(sys.argv[1])), Killer(int(sys.argv[2])))
