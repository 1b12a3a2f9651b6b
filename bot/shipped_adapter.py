"""The adapter that answers while no release is active: one that ships with Kefu, or a folder that the settings name."""

import importlib.util
from pathlib import Path
from typing import Final

from bot.settings import Settings
from bot.settings_sections import ModelSection
from dialogue.engine.base import AdapterRef

_PACKAGE: Final = "finetune"  # where the adapters that ship lie; found, never imported, because it may be taken out of an installation
_DEFAULT_MODEL: Final = ModelSection().reference
_SERVING: Final = frozenset({"auto", "llamacpp", "local"})  # engines that load an adapter from this machine


def shipped_adapter(settings: Settings) -> AdapterRef | None:
    """Return the adapter of the setting model.adapter; None where there is none.

    A name stands for an adapter that was trained for the default model: with another model, or where it was not installed, there is
    none. A path is taken as it is; whether the folder can be used is seen when it is loaded.
    """
    wanted = settings.model.adapter
    if not wanted:
        return None
    if "/" in wanted:
        folder = Path(wanted).expanduser().absolute()
        return AdapterRef(folder.name, str(folder))
    if settings.engine.kind not in _SERVING or settings.model.reference != _DEFAULT_MODEL:
        return None
    folder = next((folder for folder in _shipped_folders(wanted) if folder.is_dir()), None)
    return None if folder is None else AdapterRef(wanted, str(folder))


def _shipped_folders(name: str) -> list[Path]:
    spec = importlib.util.find_spec(_PACKAGE)
    roots = spec.submodule_search_locations if spec is not None else None
    return [Path(root) / "adapters" / name for root in roots or ()]
