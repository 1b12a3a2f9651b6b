"""How commands start the program proper: settings and model files in, an `App` out."""

import os
import pwd
from functools import partial

from bot.app import App
from bot.cli.ensure_model import ensure_model
from bot.serving import open_model
from bot.settings import Settings


def make_app(settings: Settings) -> App:
    """Return an app with the configured engine; fetches the model if it is not there. Blocks. Raises ModelError."""
    return App(settings, partial(open_model, settings, ensure_model(settings)), user=current_user())


def current_user() -> str:
    """Return the name of who runs this process; its number where it has no name, as in many containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
