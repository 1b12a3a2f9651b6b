"""`kefu finetune pretrain`: a recipe and a corpus become a model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.errors import FinetuneError
from finetune.lazy import load

EPILOG = (
    "From scratch: kefu finetune pretrain --recipe finetune/recipes/tiny.toml\n\n"
    'On your documents: kefu finetune pretrain --recipe handbook.toml --out models/handbook (with base = "…" in the recipe)'
)


def pretrain(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Option(help="The recipe, a TOML file: corpus, model, training.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder for the run; new or empty, unless --resume is given. Default: below the data folder.")
    ] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model from scratch on text or pairs, or go on training one on your documents."""
    program: ProgramConfig = ctx.obj.program_config()
    if resume and out is None:
        raise FinetuneError("--resume needs the folder of the run.", hint="Name it with --out.")
    parsed = load("finetune.pretraining.config").load_pretrain_recipe(recipe)
    run = (out or _free(program.data_dir / "pretrained" / parsed.name)).absolute()
    room = load("finetune.pretraining.pretrain")
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    with load("finetune.training.display").TerminalDisplay() as display:
        manifest = room.pretrain(
            parsed, run, program.engine.cache_dir.absolute(), display, sources=sources, resume=resume, tell=display.tell
        )
    if manifest is None:
        typer.echo(
            f"Stopped; a checkpoint is in {run}. Go on with: kefu finetune pretrain --recipe {recipe} --out {run} --resume", err=True
        )
        raise KeyboardInterrupt
    _show(run, manifest, as_json=as_json)
    room.check_reached(manifest)


def _free(folder: Path) -> Path:
    """Return a folder of this name that is not there yet."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _show(run: Path, manifest: Any, *, as_json: bool) -> None:
    values = manifest.model_dump(mode="json", exclude={"recipe"})
    if as_json:
        typer.echo(json.dumps({"run": str(run), "reached": manifest.reached, **values}))
        return
    typer.echo(
        f"Held-out loss {manifest.held_out_loss:.4f} nats per token after {manifest.steps} steps (before: {manifest.loss_before:.4f})."
    )
    entropies = manifest.corpus_unigram_entropy, manifest.held_out_unigram_entropy
    typer.echo(f"Unigram entropy: {entropies[0]:.4f} of the corpus, {entropies[1]:.4f} of the held-out part.")
    typer.echo(f"Model: {run / 'model'}")
    gguf = run / "model.gguf"
    if gguf.is_file():
        typer.echo(f"For llama.cpp: {gguf}. Try it: kefu chat --model {gguf}")
