"""`kefu finetune evaluate`: a trained adapter gets its verdict."""

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.lazy import load

EPILOG = "Example: kefu finetune evaluate --run runs/support --data datasets/support --register"
_PIPED_WIDTH = 200


def evaluate(  # noqa: PLR0917 - a command has as many options as it has
    ctx: typer.Context,
    run: Annotated[Path, typer.Option(help="The training run whose adapter is the candidate.")],
    data: Annotated[
        Path | None, typer.Option(help="The dataset whose test split is asked; by default the one that was trained on.")
    ] = None,
    incumbent: Annotated[Path | None, typer.Option(help="An adapter folder to beat, instead of the one that answers now.")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Run only this suite and the main ones; may be given several times.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="At most so many samples of each suite.")] = None,
    *,
    against_base: Annotated[
        bool, typer.Option("--against-base", help="Let the base model be the one to beat, whatever is active.")
    ] = False,
    register: Annotated[bool, typer.Option("--register", help="Store the adapter and its verdict as a release.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, the last on stdout.")] = False,
) -> None:
    """Compare a candidate with the active adapter and the base model.

    Writes RUN/evaluation/ with verdict.json, report.html and answers.jsonl.
    """
    program: ProgramConfig = ctx.obj.program_config()
    room = load("finetune.evaluation.command")
    request = room.Request(run, data, incumbent, against_base, tuple(suite or ()), samples, register)
    with ProgressBar() as bar:
        outcome = room.evaluate_run(request, program, ModelSources(program.index_url, program.hub_url, program.hub_token), bar.update)
    console = Console()
    load("finetune.evaluation.summary").show(outcome.verdict, console if console.is_terminal else Console(width=_PIPED_WIDTH))
    typer.echo(f"Report: {outcome.folder / 'report.html'}")
    if outcome.release_id:
        typer.echo(f"Release: {outcome.release_id}")
    if as_json:
        typer.echo(json.dumps(outcome.summary(), ensure_ascii=False))


class ProgressBar:
    """Shows on stderr what is being evaluated: a bar on a terminal, one line for each part elsewhere."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps of a part are done."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
            if not self._console.is_terminal:
                self._console.print(f"{what}: {total} …", markup=False, highlight=False)
        self._bar.update(self._tasks[what], completed=done)
