"""`kefu finetune export`: adapters and models as GGUF files, which llama.cpp loads."""

from pathlib import Path
from typing import Annotated

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.errors import FinetuneError
from finetune.lazy import load

EPILOG = "Example: kefu finetune export runs/support --gguf support.gguf"


def export(
    ctx: typer.Context,
    run: Annotated[Path | None, typer.Argument(help="A finished training run.")] = None,
    *,
    gguf: Annotated[Path, typer.Option(help="The file to write.")],
    merged: Annotated[bool, typer.Option("--merged", help="Write base and adapter as one float32 model.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Write this model instead: a folder of transformers' files, or a model reference.")
    ] = None,
) -> None:
    """Write an adapter as GGUF LoRA, or a model as float32 GGUF."""
    if (run is None) == (model is None):
        raise typer.BadParameter("Name a run, or a model with --model.")
    program: ProgramConfig = ctx.obj.program_config()
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    target, cache_dir = gguf.absolute(), program.engine.cache_dir
    if target.exists():
        raise FinetuneError(f"{gguf} is there already.", hint="Name another file with --gguf.")
    if run is None:
        written = load("finetune.training.export").export_model(model, target, cache_dir, sources)
    elif merged:
        written = load("finetune.training.merge").merge_gguf(run, target, cache_dir, sources)
    else:
        written = load("finetune.training.export").export_adapter(run, target, cache_dir, sources)
    typer.echo(written)
