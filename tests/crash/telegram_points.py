"""The durable edges of one message's way, and a run that kills itself at one of them."""

import os
import signal
from collections.abc import Callable
from typing import Any

from bot.channels.telegram.channel import TelegramChannel
from bot.delivery import Delivery, _Attempt
from bot.inbox import Inbox
from bot.placeholder import OutboxPlaceholder
from dialogue.manager import DialogueManager

# name → class, method, and whether the run dies when the method is called or when it has returned
POINTS: dict[str, tuple[type, str, str]] = {
    "received": (Inbox, "accept", "before"),
    "stored": (Inbox, "accept", "after"),
    "claimed": (DialogueManager, "respond", "before"),
    "reserved": (OutboxPlaceholder, "reserve", "after"),
    "preview placeholder shown": (OutboxPlaceholder, "fill", "before"),
    "preview placeholder noted": (OutboxPlaceholder, "fill", "after"),
    "committed": (Delivery, "_attempt", "before"),
    "started": (TelegramChannel, "deliver", "before"),
    "placeholder shown": (TelegramChannel, "_send_placeholder", "after"),
    "placeholder noted": (_Attempt, "record", "after"),
    "answer shown": (Delivery, "_settle", "before"),
    "marked sent": (Delivery, "_settle", "after"),
}


def arm(point: str, count: int) -> None:
    """Let this process kill itself at the `count`-th arrival at a point."""
    owner, name, when = POINTS[point]
    original = getattr(owner, name)
    die = _die_at(count)

    def before(*arguments: Any, **options: Any) -> Any:
        die()
        return original(*arguments, **options)

    async def after(*arguments: Any, **options: Any) -> Any:
        result = await original(*arguments, **options)
        die()
        return result

    setattr(owner, name, before if when == "before" else after)


def _die_at(count: int) -> Callable[[], None]:
    arrivals = 0

    def die() -> None:
        nonlocal arrivals
        arrivals += 1
        if arrivals == count:
            os.kill(os.getpid(), signal.SIGKILL)

    return die
