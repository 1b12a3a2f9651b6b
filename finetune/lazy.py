"""The lazy factory of this program: heavy modules are imported when a command needs them, so that `--help` is quick."""

import importlib
from typing import Any

from finetune.errors import FinetuneError


def load(module: str) -> Any:
    """Import a module of this package. Raises FinetuneError that names the extra when a library is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"finetune", "dialogue", "storage"}:
            raise
        raise FinetuneError(f"This needs {error.name}.", hint="Install it with: pip install 'kefu[finetune]'") from error
