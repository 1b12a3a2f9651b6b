"""`kefu finetune train`: a dataset and a recipe become an adapter."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.config import load_recipe
from finetune.lazy import load

EPILOG = "Example: kefu finetune train --recipe support.toml --data datasets/support --out runs/support"


def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Option(help="The recipe, a TOML file.")],
    data: Annotated[Path, typer.Option(help="The dataset, as `kefu finetune prepare` wrote it.")],
    out: Annotated[Path, typer.Option(help="The folder for the run; new or empty, unless --resume is given.")],
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Only write RUN/plan.json, and print the command that starts it on several devices.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a LoRA adapter. Ctrl-C makes a checkpoint first; --resume goes on from it."""
    program: ProgramConfig = ctx.obj.program_config()
    parsed = load_recipe(recipe)
    room, plans = load("finetune.training.train"), load("finetune.training.plan")
    plan = plans.TrainingPlan(
        recipe=parsed, dataset=data.absolute(), run=out.absolute(), cache_dir=program.engine.cache_dir.absolute(), resume=resume
    )
    room.begin(plan)
    if plan_only:
        typer.echo(f"accelerate launch -m finetune.training.process {plan.run / plans.PLAN_NAME}")
        return
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    with load("finetune.training.display").TerminalDisplay() as display:
        outcome = load("finetune.training.architectures").run_plan(plan, display, sources=sources, tell=display.tell)
    if outcome.interrupted:
        typer.echo(f"Stopped after step {outcome.steps} of {outcome.total_steps}. Go on with the same command and --resume.", err=True)
        raise KeyboardInterrupt
    _show(plan.run, as_json=as_json)


def _show(run: Path, *, as_json: bool) -> None:
    manifest = load("finetune.training.run_folder").read_run(run)
    result = manifest.result
    if as_json:
        typer.echo(json.dumps({"run": str(run), **result.model_dump()}))
        return
    if result.held_out_loss is not None:
        before = f" (base {result.base_held_out_loss:.4f})" if result.base_held_out_loss is not None else ""
        typer.echo(f"Held-out loss {result.held_out_loss:.4f}{before} nats per trained token after {result.steps} steps.")
    typer.echo(f"Adapter: {run / 'adapter'}")
    typer.echo(f"Next: kefu finetune evaluate --run {run}")
    if manifest.recipe.train.architecture == "seq2seq":
        typer.echo('A skill uses it by [skills.translate] engine = "seq2seq", model and adapter in kefu.toml.')
