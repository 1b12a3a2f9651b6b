"""The model, fetched with a progress bar on stderr when it is needed for the first time."""

from bot.cli.progress import ByteProgress
from bot.model_files import fetch_model
from bot.settings import Settings
from dialogue.engine.models import ModelFiles


def ensure_model(settings: Settings) -> ModelFiles | None:
    """Return the files of the configured model; silent when they are there. Blocks. Raises ModelError."""
    with ByteProgress(f"Fetching the model {settings.model.reference}") as progress:
        return fetch_model(settings, progress.update)
