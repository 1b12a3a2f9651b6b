"""`kefu finetune data`: look at datasets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from finetune.lazy import load

app: Final = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at datasets.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN: Final = 20  # ids of one kind of difference


@app.command(epilog="Example: kefu finetune data show datasets/faq --sample 3")
def show(
    folder: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    sample: Annotated[int, typer.Option(min=0, max=100, help="Also show the first so many samples of the training split.")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Show what a dataset holds, where it comes from, and what was dropped and changed."""
    dataset, shown = load("finetune.dataset"), load("finetune.commands.tables")
    manifest = load("finetune.manifest").read_manifest(folder)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    typer.echo(f"{manifest.name}, version {manifest.version[:12]}, made {manifest.created_at} by Kefu {manifest.kefu}\n")
    shown.show_manifest(manifest, dataset.read_dropped(folder))
    for one in dataset.read_split(folder, "train")[:sample]:
        typer.echo(f"\n── {one.id} · {one.kind} · {one.skill} · {one.language}")
        shown.print_turns(one)


@app.command(epilog="Example: kefu finetune data diff datasets/faq-1 datasets/faq-2")
def diff(
    first: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    second: Annotated[Path, typer.Argument(help="Another one's, to be compared with it.")],
    *,
    as_json: Json = False,
) -> None:
    """Compare two datasets: samples that came, went, changed or moved, and what the recipes say otherwise."""
    found = load("finetune.compare").compare(first, second)
    if as_json:
        typer.echo(json.dumps({"equal": found.equal, **asdict(found)}, ensure_ascii=False, indent=2))
    elif found.equal:
        typer.echo(f"The same samples: version {found.versions[0][:12]}.")
    else:
        _show_difference(found)


def _show_difference(found: Any) -> None:
    tables = load("finetune.commands.tables")
    tables.print_table(("split", "before", "after"), ((split, *numbers) for split, numbers in found.samples.items()))
    typer.echo("")
    rows = [("added", one) for one in found.added[:_SHOWN]] + [("removed", one) for one in found.removed[:_SHOWN]]
    rows += [("changed", one) for one in found.changed[:_SHOWN]]
    rows += [("moved", f"{one}: {before} → {after}") for one, before, after in found.moved[:_SHOWN]]
    rows += [("recipe", f"{key}: {before} → {after}") for key, (before, after) in found.recipe.items()]
    tables.print_table(("what", "which"), rows)
    numbers = (len(found.added), len(found.removed), len(found.changed), len(found.moved))
    typer.echo("{} added, {} removed, {} changed, {} moved to another split.".format(*numbers))
