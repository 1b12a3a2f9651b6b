"""What the assistant remembers about a person, and the commands with which that person sees, changes and erases it.

All of it belongs to private chats: in a group every one of these commands only says so.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from dialogue.router import Command, CommandContext, CommandReply, Effect
from dialogue.skills.languages import find_language, language_name
from dialogue.words import say
from storage.records import ProfileRecord
from storage.unit_of_work import UnitOfWork

MAX_NOTES: Final = 50
MAX_NOTE_CHARACTERS: Final = 500
MAX_NAME_CHARACTERS: Final = 80
MAX_TONE_CHARACTERS: Final = 40

Answer = Callable[[CommandContext, ProfileRecord], CommandReply]


@dataclass(frozen=True, slots=True)
class MemoryCommand:
    """A command about the profile; answers in private chats only."""

    name: str
    answer: Answer

    def describe(self, language: str) -> str:
        return say(f"command_{self.name}", language)

    async def run(self, context: CommandContext) -> CommandReply:
        if context.profile is None:
            return CommandReply(say("private_only", context.language))
        return self.answer(context, context.profile)


def memory_commands() -> dict[str, Command]:
    """Return the commands of this module by their name."""
    answers: dict[str, Answer] = {
        "remember": remember,
        "memory": show_memory,
        "forget": forget,
        "name": set_name,
        "language": set_language,
        "tone": set_tone,
    }
    return {name: MemoryCommand(name, answer) for name, answer in answers.items()}


def remember(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Add a note."""
    note = one_line(context.argument)
    if not note:
        return CommandReply(say("remember_usage", context.language))
    if len(note) > MAX_NOTE_CHARACTERS:
        return CommandReply(say("remember_too_long", context.language, limit=MAX_NOTE_CHARACTERS, length=len(note)))
    if len(profile.notes) >= MAX_NOTES:
        return CommandReply(say("remember_full", context.language, limit=MAX_NOTES))

    async def add(work: UnitOfWork) -> None:
        await work.users.add_note(context.user_id, note)

    return CommandReply(say("remembered", context.language, note=note), effect=add)


def show_memory(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Say everything that is remembered, the notes with their numbers."""
    language = context.language
    values = {"name": profile.name, "language": language_name(profile.language, language), "tone": profile.tone}
    lines = [say(f"memory_{key}", language, value=value) for key, value in values.items() if value]
    lines += [f"{number}. {note}" for number, note in enumerate(profile.notes, start=1)]
    if not lines:
        return CommandReply(say("memory_empty", language))
    return CommandReply("\n".join([say("memory_heading", language), *lines]))


def forget(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Erase the whole profile, or the note that the argument numbers. Where there are buttons, `bot.commands` asks before."""
    argument = context.argument
    if not argument:
        return CommandReply(say("forgotten", context.language), effect=_forget_all(context.user_id))
    if not (argument.isascii() and argument.isdigit()):
        return CommandReply(say("forget_usage", context.language))
    number = int(argument[:9])
    if not 1 <= number <= len(profile.notes):
        return CommandReply(say("forget_unknown", context.language, number=number))
    kept = profile.notes[: number - 1] + profile.notes[number:]
    return CommandReply(
        say("forgotten_note", context.language, note=profile.notes[number - 1]),
        effect=_forget_but(profile, kept),
    )


def _forget_all(user_id: str) -> Effect:
    async def erase(work: UnitOfWork) -> None:
        await work.users.forget_profile(user_id)

    return erase


def _forget_but(profile: ProfileRecord, notes: tuple[str, ...]) -> Effect:
    async def rewrite(work: UnitOfWork) -> None:
        await work.users.forget_profile(profile.user_id)
        await work.users.set_profile(profile.user_id, name=profile.name, language=profile.language, tone=profile.tone)
        for note in notes:
            await work.users.add_note(profile.user_id, note)

    return rewrite


def set_name(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Set how the user is called."""
    value = one_line(context.argument)

    async def change(work: UnitOfWork) -> None:
        await work.users.set_profile(profile.user_id, name=value)

    return _set(context, "name", value, MAX_NAME_CHARACTERS, change)


def set_tone(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Set how the assistant talks."""
    value = one_line(context.argument)

    async def change(work: UnitOfWork) -> None:
        await work.users.set_profile(profile.user_id, tone=value)

    return _set(context, "tone", value, MAX_TONE_CHARACTERS, change)


def set_language(context: CommandContext, profile: ProfileRecord) -> CommandReply:
    """Set the user's language, and answer in it."""
    if not context.argument:
        return CommandReply(say("language_usage", context.language))
    code = find_language(context.argument)
    if code is None:
        return CommandReply(say("language_unknown", context.language, value=one_line(context.argument)[:MAX_TONE_CHARACTERS]))

    async def change(work: UnitOfWork) -> None:
        await work.users.set_profile(profile.user_id, language=code)

    return CommandReply(say("language_set", code, value=language_name(code, code)), effect=change)


def _set(context: CommandContext, field: str, value: str, limit: int, change: Callable[[UnitOfWork], Awaitable[None]]) -> CommandReply:
    if not value:
        return CommandReply(say(f"{field}_usage", context.language))
    if len(value) > limit:
        return CommandReply(say("too_long_value", context.language, limit=limit))
    return CommandReply(say(f"{field}_set", context.language, value=value), effect=change)


def one_line(text: str) -> str:
    """Return the text with every run of white space as one space: a note cannot look like several lines of a prompt."""
    return " ".join(text.split())
