"""The whole program with a Telegram channel, around a fake Telegram in the same process and a scripted engine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bot.app import App
from bot.channels.telegram.channel import TelegramChannel, telegram_channel
from bot.channels.telegram.fake_chats import Shown
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram
from bot.control import call
from bot.settings import Settings
from bot.settings_sections import TelegramSection
from dialogue.byte_chat import echo_user
from dialogue.engine.base import Engine
from dialogue.engine.scripted import ScriptedEngine
from tests.bot.apps import app_settings, make_app, running

CHAT, GROUP = 1001, -4001
PLACEHOLDER = "…"


@dataclass
class Scene:
    """A running Kefu, and the people of a fake Telegram."""

    telegram: FakeTelegram
    app: App
    settings: Settings
    channel: TelegramChannel

    async def answers(self, count: int, chat: int = CHAT) -> list[Shown]:
        """Wait until so many messages of the bot have their final text; return them, oldest first."""
        await self.until(lambda: len(self.finished(chat)) >= count)
        return self.finished(chat)

    def finished(self, chat: int = CHAT) -> list[Shown]:
        """Return the bot's messages that are no placeholders and cannot be stopped any more."""
        return [
            shown for shown in self.telegram.screen(chat) if shown.is_bot and shown.text != PLACEHOLDER and "stop" not in shown.button_data
        ]

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait until something can be seen on Telegram."""
        async with asyncio.timeout(30):
            while not happened():
                await self.telegram.changed()

    async def operate(self, operation: str, **arguments: Any) -> Any:
        """Run an operation of the control socket, as a command in another process would."""
        return await call(self.settings.control_socket, operation, **arguments)


def telegram_settings(folder: Path, telegram: FakeTelegram, **fields: Any) -> Settings:
    """Return settings for a bot on a fake Telegram, without limits of its own unless `fields` say otherwise."""
    section: dict[str, Any] = {
        "token": SecretStr(telegram.token),
        "base_url": telegram.base_url,
        "chat_per_s": 0,
        "group_per_min": 0,
        "overall_per_s": 0,
        "timeout_s": 5.0,
        "preview_s": 0.1,
        **fields,
    }
    return app_settings(folder).model_copy(update={"telegram": TelegramSection(**section)})


@asynccontextmanager
async def scene(
    folder: Path,
    *,
    engine: Engine | None = None,
    fake: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **telegram: Any,
) -> AsyncIterator[Scene]:
    """Run it. `telegram` are settings of the section, `settings` whole other sections, `fake` arguments of FakeTelegram."""
    given: dict[str, Any] = {"limits": Limits.none(), "pace": 0.0, **(fake or {})}
    async with FakeTelegram(**given) as server:
        configured = telegram_settings(folder, server, **telegram).model_copy(update=settings or {})
        channel = telegram_channel(configured)
        assert channel is not None
        app = make_app(configured, engine or ScriptedEngine(echo_user))
        async with running(app, [channel]):
            yield Scene(server, app, configured, channel)
