"""How commands start the program proper: settings and model files in, an `App` out."""

from functools import partial

from bot.app import App
from bot.cli.ensure_model import ensure_model
from bot.cli.person import current_user
from bot.serving import open_model
from bot.settings import Settings


def make_app(settings: Settings) -> App:
    """Return an app with the configured engine; fetches the model if it is not there. Blocks. Raises ModelError."""
    return App(settings, partial(open_model, settings, ensure_model(settings)), user=current_user())
