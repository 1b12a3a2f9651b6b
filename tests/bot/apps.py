"""The whole program around a scripted engine, in a folder of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bot.app import App, RunOptions
from bot.channels.base import Channel
from bot.settings import Settings
from bot.settings_sections import AccessSection, DialogueSection, EngineSection, HttpSection, LimitsSection, PathsSection
from bot.unstarted_model import UnstartedModel
from dialogue.byte_chat import ByteTemplate, ByteTokenizer, echo_user
from dialogue.engine.base import Engine
from dialogue.engine.scripted import ScriptedEngine


def app_settings(folder: Path) -> Settings:
    """Return settings that touch nothing outside `folder`."""
    return Settings(
        engine=EngineSection(kind="scripted"),
        dialogue=DialogueSection(quiet_window_s=0.0, seed=1),
        http=HttpSection(port=0),
        access=AccessSection(messages_per_minute=0),
        limits=LimitsSection(workers=4),
        paths=PathsSection(data_dir=folder / "data", cache_dir=folder / "cache"),
    )


def make_app(settings: Settings, engine: Engine | None = None) -> App:
    """Return an app with this engine, by default one that repeats what was said."""

    async def open_model() -> UnstartedModel:
        return UnstartedModel(engine or ScriptedEngine(echo_user), ByteTemplate(), ByteTokenizer(), "scripted", "0" * 64)

    return App(settings, open_model, user="ann")


@asynccontextmanager
async def running(app: App, channels: Sequence[Channel] = (), options: RunOptions | None = None) -> AsyncIterator["asyncio.Task[int]"]:
    """Run the app while the block runs; then stop it and wait for its end."""
    task: asyncio.Task[int] = asyncio.create_task(app.run(channels, options or RunOptions(patience_s=5.0)))
    try:
        ready = asyncio.create_task(app.ready.wait())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        ready.cancel()
        yield task
    finally:
        app.stopping.ask()
        async with asyncio.timeout(20):
            await task
