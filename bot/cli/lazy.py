"""The group that loads a command when it is called, and shows the others by one line each."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from bot.errors import CliError


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives, and what `--help` says of it without loading it."""

    target: str  # "module:typer application"
    help: str  # the first line of its own help: a test holds the two together
    panel: str = "Commands"
    needs: str = ""  # the extra that its libraries come with


class LazyGroup(TyperGroup):
    """A command group whose members are stand-ins until one of them is resolved. Subclasses give the table."""

    table: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in self.table.items():
            if _exists(command.target):
                self.commands[name] = TyperCommand(name, help=command.help, rich_help_panel=command.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its stand-in, then resolve as usual."""
        if args and args[0] in self.commands:
            self.commands[args[0]] = load_command(args[0], self.table[args[0]])
        return super().resolve_command(ctx, args)


def load_command(name: str, command: LazyCommand) -> Any:
    """Import the module of a command and return the command. This is the lazy factory of the command line."""
    try:
        application = find_target(command.target)
    except ModuleNotFoundError as error:
        if not command.needs:
            raise
        raise CliError(f"`kefu {name}` needs {error.name}.", hint=f"Install it with: pip install 'kefu[{command.needs}]'") from error
    loaded = typer.main.get_command(application)
    loaded.name = name
    return loaded


def find_target(target: str) -> Any:
    """Import "module:attribute" and return the attribute."""
    module_name, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def _exists(target: str) -> bool:
    module_name = target.partition(":")[0]
    return importlib.util.find_spec(module_name) is not None
