"""Progress on stderr, shown only when there is something to wait for."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from rich import filesize
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from bot.cli.output import note
from dialogue.normalise import escape_control


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show that something of unknown length goes on: a spinner on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(escape_control(title))):
        yield


class ByteProgress:
    """Shows how many bytes are done: a bar on a terminal, one line at the start elsewhere."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._announced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, done: int, total: int | None) -> None:
        """`done` of `total` bytes have come; None = nobody knows how many there will be."""
        if not self._announced:
            self._announced = True
            self._open(total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)

    def _open(self, total: int | None) -> None:
        if not sys.stderr.isatty():
            size = f" ({filesize.decimal(total)})" if total else ""
            note(f"{self._title}{size} …")
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        self._task = self._bar.add_task(escape_control(self._title), total=total or None)
