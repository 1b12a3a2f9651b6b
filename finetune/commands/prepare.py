"""`kefu finetune prepare`: sources become a dataset."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dialogue.config import ProgramConfig
from dialogue.engine.model_sources import ModelSources
from finetune.config import Recipe, load_recipe
from finetune.errors import FinetuneError
from finetune.lazy import load

EPILOG = (
    "Example: kefu finetune prepare --recipe support.toml; or, without a recipe: kefu finetune prepare --source faq.csv --out datasets/faq"
)


def prepare(
    ctx: typer.Context,
    recipe: Annotated[Path | None, typer.Option(help="The recipe, a TOML file.")] = None,
    source: Annotated[Path | None, typer.Option(exists=True, help="One file, or a folder of Markdown, instead of a recipe.")] = None,
    out: Annotated[Path | None, typer.Option(help="The dataset's folder; otherwise below the data folder, named by its content.")] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be used, instead of counting it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Make a dataset: read, clean, split, and say what became of every row. Nothing is written until all is done."""
    program: ProgramConfig = ctx.obj.program_config()
    parsed, name = _recipe(recipe, source, program)
    room, shown = load("finetune.prepare"), load("finetune.commands.tables")
    renderer = _renderer(parsed, program)
    own = _own_turns(parsed, program)
    with shown.RowProgress() as progress:
        prepared = room.prepare(parsed, renderer, name=name, own=own, strict=strict, watch=progress.update)
    folder = out or program.data_dir / "datasets" / f"{parsed.name}-{prepared.manifest.version[:12]}"
    prepared.write(folder)
    if as_json:
        typer.echo(json.dumps({"dataset": str(folder), **prepared.manifest.model_dump(mode="json")}, ensure_ascii=False))
        return
    shown.show_manifest(prepared.manifest, prepared.dropped)
    typer.echo(f"Dataset: {folder}")
    typer.echo(f"Next: kefu finetune train --recipe {recipe or 'RECIPE'} --data {folder} --out RUN", err=True)


def _recipe(recipe: Path | None, source: Path | None, program: ProgramConfig) -> tuple[Recipe, str]:
    if (recipe is None) == (source is None):
        raise FinetuneError("Name either a recipe or a source.", hint=EPILOG)
    if recipe is not None:
        return load_recipe(recipe), str(recipe)
    guessed = load("finetune.sources.guess").guess_recipe(source, program.engine.model)
    for line in guessed.told:
        typer.echo(line, err=True)
    return guessed.recipe, str(source)


def _renderer(recipe: Recipe, program: ProgramConfig) -> Any:
    """Return what measures rows in tokens; None for models that are no chat models."""
    if recipe.train.architecture != "decoder":
        return None
    models, rendering = load("dialogue.engine.models"), load("finetune.rendering")
    sources = ModelSources(program.index_url, program.hub_url, program.hub_token)
    files = models.pull_tokenizer(recipe.model, program.engine.cache_dir, sources=sources)
    tokenizer = models.load_tokenizer(files)
    return rendering.build_renderer(models.load_template(files, tokenizer), tokenizer, recipe.dialogue_config(), recipe.train.row_tokens)


def _own_turns(recipe: Recipe, program: ProgramConfig) -> Any:
    if not any(section.map == "own_turns" for section in recipe.source):
        return None
    return asyncio.run(load("finetune.sources.own_turns").read_own_turns(program.storage))
