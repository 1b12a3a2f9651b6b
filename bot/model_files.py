"""Gets the files that the configured engine needs: the model itself, or only tokenizer and template for a remote one."""

from collections.abc import Callable

from bot.settings import Settings
from dialogue.engine.hub_model import pull_for_torch
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import ModelFiles, list_cached, parse_reference, pull, pull_tokenizer

NO_FILES = frozenset({"scripted"})  # engines without a model


def model_sources(settings: Settings) -> ModelSources:
    """Return the servers that model references are looked up at."""
    model = settings.model
    return ModelSources(
        index_url=model.index_url.get_secret_value() if model.index_url else ModelSources().index_url,
        hub_url=model.hub_url,
        hub_token=model.hub_token.get_secret_value() if model.hub_token else "",
    )


def cached_model(settings: Settings) -> ModelFiles | None:
    """Return the configured model if it was fetched already. Raises ModelReferenceInvalid."""
    reference = str(parse_reference(settings.model.reference))
    return next((files for files in list_cached(settings.cache_dir) if files.reference == reference), None)


def fetch_model(settings: Settings, progress: Callable[[int, int], None] | None = None) -> ModelFiles | None:
    """Return what the engine needs, fetched if it is not there yet; None for an engine without a model. Blocks. Raises ModelError."""
    sources = model_sources(settings)
    if settings.engine.kind in NO_FILES:
        return None
    if settings.engine.kind == "remote":
        return pull_tokenizer(settings.remote.tokenizer or settings.model.reference, settings.cache_dir, sources=sources)
    if settings.engine.kind == "local":
        return pull_for_torch(settings.model.reference, settings.cache_dir, sources, progress)
    return pull(settings.model.reference, settings.cache_dir, progress, sources=sources)
