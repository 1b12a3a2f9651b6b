"""Direct commands: answered at once, without a generation. Those about memory live in `dialogue.memory`."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.command_words import say
from dialogue.engine.base import EngineHealth
from dialogue.router import Command, CommandContext, CommandReply
from storage.database import Database
from storage.unit_of_work import UnitOfWork

Answer = Callable[[CommandContext], Awaitable[CommandReply]]

UNLISTED: Final = frozenset({"start"})  # platforms send it by themselves


@dataclass(frozen=True, slots=True)
class DirectCommand:
    """A command whose answer is a function."""

    name: str
    answer: Answer

    def describe(self, language: str) -> str:
        return "" if self.name in UNLISTED else say(f"describe_{self.name}", language)

    async def run(self, context: CommandContext) -> CommandReply:
        return await self.answer(context)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the commands need to know of the program."""

    database: Database
    assistant_name: str
    model: str
    engine_health: Callable[[], EngineHealth]
    list_commands: Callable[[str], Sequence[str]]  # language → one line for each skill and command
    export_dir: Path  # where the terminal's /export saves its file


def direct_commands(around: Surroundings) -> Mapping[str, Command]:
    """Return the commands of this module by their name."""
    answers = Answers(around)
    by_name: dict[str, Answer] = {
        "start": answers.start,
        "help": answers.help,
        "new": answers.new,
        "stop": answers.stop,
        "privacy": answers.privacy,
        "export": answers.export,
        "status": answers.status,
    }
    return {name: DirectCommand(name, answer) for name, answer in by_name.items()}


class Answers:
    """One method for each command."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def start(self, context: CommandContext) -> CommandReply:
        return CommandReply(say("start", context.language, name=self._around.assistant_name))

    async def help(self, context: CommandContext) -> CommandReply:
        return CommandReply(say("help", context.language, list="\n".join(self._around.list_commands(context.language))))

    async def new(self, context: CommandContext) -> CommandReply:
        async def start_new(unit: UnitOfWork) -> None:
            await unit.conversations.start_new(context.conversation.id)

        return CommandReply(say("new", context.language), effect=start_new)

    async def stop(self, context: CommandContext) -> CommandReply:
        """Only what came too late gets here; a /stop that stopped something is answered by the stopped answer."""
        return CommandReply(say("nothing_to_stop", context.language))

    async def privacy(self, context: CommandContext) -> CommandReply:
        return CommandReply(say("privacy", context.language))

    async def status(self, context: CommandContext) -> CommandReply:
        health = self._around.engine_health()
        state = say("status_ready" if health.ready else "status_not_ready", context.language, detail=health.detail)
        values = {"model": self._around.model, "running": health.running, "waiting": health.waiting}
        return CommandReply(say("status", context.language, state=state, **values))

    async def export(self, context: CommandContext) -> CommandReply:
        """A file, where the person sits at this machine. As text it would become part of the next export."""
        if context.conversation.channel != "terminal":
            return CommandReply(say("export_elsewhere", context.language))
        data = await self._around.database.read(lambda unit: unit.users.export(context.user_id))
        path = self._around.export_dir / f"kefu-export-{context.user_id}.json"
        await asyncio.to_thread(_save_private, path, data)
        return CommandReply(say("export_saved", context.language, path=path))


def _save_private(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, indent=1)
