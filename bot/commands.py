"""Direct commands: answered at once, without a generation. Those about memory live in `dialogue.memory`."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot.command_words import say
from bot.documents import EXPORT
from bot.rating import forget_buttons
from dialogue.engine.base import EngineHealth
from dialogue.extras import ReplyExtras
from dialogue.memory import memory_commands
from dialogue.messages import ConversationKey, Sender
from dialogue.router import Command, CommandContext, CommandReply
from storage.database import Database
from storage.records import OutboxState
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
    is_owner: Callable[[ConversationKey, Sender], bool]  # who gets to see how the program itself is doing
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
        "forget": answers.forget,
        "human": answers.human,
        "status": answers.status,
    }
    return {name: DirectCommand(name, answer) for name, answer in by_name.items()}


class Answers:
    """One method for each command."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._forget_in_memory = memory_commands()["forget"]

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
        lines = [say("status", context.language, state=state, **values)]
        message = context.messages[-1]
        if self._around.is_owner(message.key, message.sender):
            figures = await self._around.database.read(_figures)
            lines.append(say("status_owner", context.language, **figures))
        return CommandReply("\n".join(lines))

    async def human(self, context: CommandContext) -> CommandReply:
        """The conversation waits for a person; the bot goes on until one takes it."""
        if context.conversation.waiting_since is not None:
            return CommandReply(say("human_already", context.language))

        async def wait(unit: UnitOfWork) -> None:
            await unit.conversations.set_waiting(context.conversation.id)

        return CommandReply(say("human_waiting", context.language), effect=wait)

    async def forget(self, context: CommandContext) -> CommandReply:
        """Ask by buttons what is to go (`bot.presses` does it). Without buttons, and for single notes, only the memory is touched."""
        if context.argument or not context.abilities.buttons:
            return await self._forget_in_memory.run(context)
        is_private = context.conversation.is_private
        asker = context.messages[-1].sender.external_id
        buttons = forget_buttons(context.language, asker, is_private=is_private)
        text = say("forget_ask" if is_private else "forget_ask_group", context.language)
        return CommandReply(text, extras=ReplyExtras(buttons=buttons))

    async def export(self, context: CommandContext) -> CommandReply:
        """A file, where one can be sent or the person sits at this machine. As text it would become part of the next export."""
        if context.abilities.files:
            caption = "export_caption" if context.conversation.is_private else "export_caption_group"
            return CommandReply(say(caption, context.language), extras=ReplyExtras(document=EXPORT))
        if context.conversation.channel != "terminal":
            return CommandReply(say("export_elsewhere", context.language))
        data = await self._around.database.read(lambda unit: unit.users.export(context.user_id))
        path = self._around.export_dir / f"kefu-export-{context.user_id}.json"
        await asyncio.to_thread(_save_private, path, data)
        return CommandReply(say("export_saved", context.language, path=path))


async def _figures(unit: UnitOfWork) -> dict[str, int]:
    """Return what an owner wants to know about the queues."""
    outbox = await unit.outbox.counts()
    return {
        "pending": await unit.inbox.pending(),
        "oldest": await unit.inbox.oldest_pending_age_ms() // 1000,
        "unknown": outbox.get(OutboxState.UNKNOWN, 0),
        "failed": outbox.get(OutboxState.FAILED, 0),
        "quarantined": await unit.inbox.quarantined_count(),
        "orphans": await unit.outbox.orphans(),
    }


def _save_private(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, indent=1)
