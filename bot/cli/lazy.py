"""The group that loads a command when it is called, and shows the others by one line each."""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


_TALK, _LOOK, _CARE = "Talk", "See", "Care for"

COMMANDS: Mapping[str, LazyCommand] = {
    "chat": LazyCommand("bot.cli.chat:app", "Talk to the assistant in this terminal.", _TALK),
    "ask": LazyCommand("bot.cli.ask:app", "Ask one question, print the answer, exit.", _TALK),
    "run": LazyCommand("bot.cli.run:app", "Serve every configured channel until stopped.", _TALK),
    "doctor": LazyCommand("bot.cli.doctor:app", "Check settings, database, model, engine, disk and clock.", _LOOK),
    "conversations": LazyCommand("bot.cli.conversations:app", "Show conversations and their turns.", _LOOK),
    "replay": LazyCommand("bot.cli.replay:app", "Show what a turn was made of, and make it again.", _LOOK),
    "bench": LazyCommand("bot.cli.bench:app", "Measure the engine or the database on this machine.", _LOOK),
    "init": LazyCommand("bot.cli.init:app", "Write a kefu.toml that explains every setting.", _CARE),
    "models": LazyCommand("bot.cli.models:app", "Fetch and list models.", _CARE),
    "db": LazyCommand("bot.cli.db:app", "Upgrade, back up and restore the database.", _CARE),
    "users": LazyCommand("bot.cli.users:app", "Export or erase what is remembered about a person.", _CARE),
    "finetune": LazyCommand("finetune.cli:app", "Train an adapter on your own conversations.", _CARE, needs="finetune"),
    "version": LazyCommand("bot.cli.version:app", "Print the version.", _LOOK),
}


class LazyGroup(TyperGroup):
    """A command group whose members are stand-ins until one of them is resolved."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            if _exists(command.target):
                self.commands[name] = TyperCommand(name, help=command.help, rich_help_panel=command.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its stand-in, then resolve as usual."""
        if args and args[0] in self.commands:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """Import the module of a command and return the command. This is the lazy factory of the command line."""
    command = COMMANDS[name]
    module_name, _, attribute = command.target.partition(":")
    try:
        application = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if not command.needs:
            raise
        raise CliError(f"`kefu {name}` needs {error.name}.", hint=f"Install it with: pip install 'kefu[{command.needs}]'") from error
    loaded = typer.main.get_command(application)
    loaded.name = name
    return loaded


def _exists(target: str) -> bool:
    module_name = target.partition(":")[0]
    return importlib.util.find_spec(module_name) is not None
