"""A run on a terminal: a bar with loss, speed and time left. Elsewhere a line now and then."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINES = 20  # of a run whose stderr is no terminal


class TerminalDisplay:
    """Shows a run on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._held_out = "–"
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f} · held out {task.fields[held_out]} · {task.fields[speed]:.0f} trained tokens/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: int, total: int, loss: float, tokens_per_s: float) -> None:
        """Show one more step of `total`; loss in nats per trained token."""
        if self._task is None:
            self._task = self._bar.add_task("", total=total, completed=done - 1, loss=loss, held_out=self._held_out, speed=tokens_per_s)
        self._bar.update(self._task, completed=done, loss=loss, held_out=self._held_out, speed=tokens_per_s)
        if not self._console.is_terminal and (done == total or done % max(1, total // LINES) == 0):
            self.tell(f"step {done} of {total}: loss {loss:.3f}, {tokens_per_s:.0f} trained tokens/s")

    def held_out(self, done: int, loss: float) -> None:
        """Show the held-out loss after `done` steps."""
        self._held_out = f"{loss:.3f}"
        if not self._console.is_terminal:
            self.tell(f"step {done}: held-out loss {loss:.3f}")

    def tell(self, text: str) -> None:
        """Say a sentence above the bar."""
        self._console.print(text, markup=False, highlight=False)
