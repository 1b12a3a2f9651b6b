"""`kefu version`."""

from importlib.metadata import version as installed_version

import typer

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: kefu version")
def version() -> None:
    """Print the version."""
    typer.echo(f"kefu {installed_version('kefu')}")


def print_version(wanted: bool) -> None:  # noqa: FBT001 typer calls it so
    """Serve `kefu --version`."""
    if wanted:
        version()
        raise typer.Exit
