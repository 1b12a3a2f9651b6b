"""How commands start the program proper: settings and model files in, an `App` out."""

from functools import partial

from bot.app import App
from bot.cli.ensure_model import ensure_model, ensure_skill_models
from bot.cli.person import current_user
from bot.serving import open_model
from bot.settings import Settings
from bot.skill_models import open_skill_models


def make_app(settings: Settings) -> App:
    """Return an app with the configured engines; fetches models that are not there. Blocks. Raises ModelError and EngineUnavailable."""
    return App(
        settings,
        partial(open_model, settings, ensure_model(settings)),
        open_skill_models=partial(open_skill_models, settings, ensure_skill_models(settings)),
        user=current_user(),
    )
