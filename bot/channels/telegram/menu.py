"""The menu of commands that Telegram shows, in each language of the catalogues. Nothing depends on it."""

from typing import Final

import structlog

from bot.channels.base import DeliveryError
from bot.channels.telegram.api import TelegramApi
from bot.command_words import CATALOGUE, say
from dialogue.catalogue import FALLBACK

COMMANDS: Final = (
    "start",
    "help",
    "new",
    "stop",
    "language",
    "translate",
    "summarize",
    "write",
    "remember",
    "memory",
    "privacy",
    "export",
    "forget",
    "human",
    "status",
)
log = structlog.get_logger(__name__)


async def set_menu(api: TelegramApi) -> None:
    """Tell Telegram the commands. A failure is only logged: the menu of the last run stays."""
    for language in CATALOGUE.languages:
        code = "" if language == FALLBACK else language.partition("_")[0]  # "" = everybody else
        try:
            await api.set_commands(code, [(name, say(f"menu_{name}", language)) for name in COMMANDS])
        except DeliveryError as error:
            log.warning("telegram.no_menu", reason=str(error))
            return
