"""`kefu finetune merge`: an adapter written into its base."""

from pathlib import Path
from typing import Annotated

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.lazy import load

EPILOG = "Example: kefu finetune merge runs/support --out models/support"


def merge(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="A finished training run.")],
    out: Annotated[Path, typer.Option(help="The new folder for the model, as transformers saves it.")],
) -> None:
    """Write an adapter into its base model, as a whole model in float32."""
    program: ProgramConfig = ctx.obj.program_config()
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    typer.echo(load("finetune.training.merge").merge(run, out.absolute(), program.engine.cache_dir, sources))
