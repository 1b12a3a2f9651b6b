"""`kefu init`."""

from pathlib import Path
from typing import Annotated

import typer

from bot.cli.output import note
from bot.errors import CliError
from bot.settings import PROJECT_FILE
from bot.settings_template import render_template

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: kefu init --path /etc/kefu/kefu.toml")
def init(
    path: Annotated[Path, typer.Option(help="File to write, or the folder for it.")] = PROJECT_FILE,
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is already there.")] = False,
) -> None:
    """Write a kefu.toml that explains every setting."""
    target = path / PROJECT_FILE if path.is_dir() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(render_template())
    except FileExistsError:
        raise CliError(f"{target} is already there.", hint="Use --force to write over it, or --path for another place.") from None
    typer.echo(str(target))
    note("Take the # away from what you change; `kefu doctor` checks it.")
