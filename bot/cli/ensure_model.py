"""The model, fetched with a progress bar on stderr when it is needed for the first time."""

from collections.abc import Mapping

from bot.cli.progress import ByteProgress
from bot.model_files import fetch_model
from bot.settings import Settings
from bot.skill_models import fetch_skill_models
from dialogue.engine.models import ModelFiles


def ensure_model(settings: Settings) -> ModelFiles | None:
    """Return the files of the configured model; silent when they are there. Blocks. Raises ModelError."""
    with ByteProgress(f"Fetching the model {settings.model.reference}") as progress:
        return fetch_model(settings, progress.update)


def ensure_skill_models(settings: Settings) -> Mapping[str, ModelFiles]:
    """Return the files of the models that skills have for themselves. Blocks. Raises ModelError and EngineUnavailable."""
    with ByteProgress("Fetching the models of single skills") as progress:
        return fetch_skill_models(settings, progress.update)
