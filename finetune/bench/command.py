"""`kefu bench train`. It is mounted by `kefu bench`; what is heavy is loaded when it is called."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.lazy import load

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: kefu bench train --quick; kefu bench train --rounds 3 --out bench")
def train(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model reference, instead of model.reference.")] = None,
    *,
    data: Annotated[Path | None, typer.Option(help="A dataset of `kefu finetune prepare`, instead of the demonstration's.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Different rows at most; otherwise as many as the steps need.")] = None,
    steps: Annotated[int | None, typer.Option(min=2, help="Steps of TRL's default batch, 8 rows each.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=100, help="How often each arm is measured.")] = None,
    row_tokens: Annotated[int, typer.Option(min=32, help="Tokens of a pack, for both arms that pack.")] = 512,
    packs_at_once: Annotated[int, typer.Option(min=1, help="Packs of one forward pass, for both arms that pack.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each arm; otherwise as torch likes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the adapter and the order; each round adds one.")] = 17,
    out: Annotated[Path | None, typer.Option(help="Folder for loss.png, the loss over trained tokens.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny model of random weights, about a minute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="No table; the last line is one JSON object in any case.")] = False,
) -> None:
    """Measure LoRA training beside TRL's SFTTrainer, with its defaults and tuned.

    All arms train the same rows, adapter and tokens with the same learning rate, in turn, each in a process of its own.
    The last line is one JSON object.
    """
    program: ProgramConfig = ctx.obj.program_config()
    room = load("finetune.bench.train_bench")
    usual = room.QUICK if quick else room.FULL
    setting = room.Setting(
        model=model or (None if quick else program.engine.model),
        cache_dir=program.engine.cache_dir.absolute(),
        sources=ModelSources(program.index_url, program.hub_url, program.hub_token),
        size=room.BenchSize(steps or usual.steps, rounds or usual.rounds, rows),
        seed=seed,
        dataset=data,
        row_tokens=row_tokens,
        packs_at_once=packs_at_once,
        threads=threads,
        out=out,
    )
    _show(_watched(room, setting), as_json=as_json)


def _watched(room: Any, setting: Any) -> dict[str, Any]:
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Measuring", total=setting.size.rounds * len(room.ARMS) + 2)

        def tell(text: str) -> None:
            console.print(text, markup=False, highlight=False)
            bar.advance(task)

        return room.run_bench(setting, tell)


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        for line in load("finetune.bench.summary").table(result):
            typer.echo(line)
    typer.echo(json.dumps(result, ensure_ascii=False))
