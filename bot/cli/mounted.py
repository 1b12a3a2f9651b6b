"""What a mounted program is handed: the settings as frozen values of `dialogue` and `storage`."""

from pathlib import Path

import typer

from bot.cli.prepare import prepare
from bot.model_files import model_sources
from bot.shipped_adapter import shipped_adapter
from dialogue.config import ProgramConfig


def program_config(ctx: typer.Context) -> ProgramConfig:
    """Load the settings and set up the logs. Raises SettingsError."""
    settings = prepare(ctx)
    sources = model_sources(settings)
    shipped = shipped_adapter(settings) if settings.model.use_adapters else None
    return ProgramConfig(
        dialogue=settings.dialogue_config(),
        engine=settings.engine_config(),
        storage=settings.storage_config(),
        data_dir=settings.data_dir,
        adapter=None if shipped is None else Path(shipped.path),
        skill_adapters={model.model: folder for model in settings.skill_models().values() if (folder := model.adapter_folder) is not None},
        index_url=sources.index_url,
        hub_url=sources.hub_url,
        hub_token=sources.hub_token,
    )
