"""Asks before something is lost."""

import sys

import typer

from bot.errors import CliError, ExitCode
from dialogue.normalise import escape_control


def ask_consent(warning: str, *, yes: bool) -> None:
    """Return if the operator agrees. Raises CliError when nobody can be asked, and typer.Abort on a no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CliError(f"{warning} Nobody can be asked here.", hint="Use --yes if that is meant.", code=ExitCode.USAGE)
    typer.echo(escape_control(warning), err=True)
    typer.confirm("Go on?", abort=True, err=True)
