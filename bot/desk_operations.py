"""The desk as operations of the control socket."""

from collections.abc import Awaitable, Callable
from typing import Any

from bot.arguments import Arguments, text
from bot.handoff_desk import Desk, NothingRuns
from storage.database import Database

ACTOR = "operator"  # whoever may use the command line; people with names come with the console
PREVIEW_ELSEWHERE_S = 30.0  # how long a preview of another process can be on its way, where its settings are not known


def desk_of_a_command(database: Database) -> Desk:
    """Return the desk of a command that opened the database itself: nothing is answered or delivered in its process."""
    return Desk(database, NothingRuns(), preview_s=PREVIEW_ELSEWHERE_S, follow_s=0.0)


def desk_operations(desk: Desk) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
    """Return the operations by name."""

    async def take(arguments: Arguments) -> Any:
        return await desk.take(text(arguments, "id"), ACTOR)

    async def say(arguments: Arguments) -> Any:
        return await desk.say(text(arguments, "id"), text(arguments, "text"), ACTOR, wait=bool(arguments.get("wait", True)))

    async def release(arguments: Arguments) -> Any:
        return await desk.release(text(arguments, "id"), ACTOR)

    return {"conversations.take": take, "conversations.say": say, "conversations.release": release}
