"""The adapter that answers while no release is active: where it is found, and when it is left alone."""

from pathlib import Path

import pytest

from bot import shipped_adapter as room
from bot.settings import Settings
from bot.settings_sections import EngineSection, ModelSection, RemoteSection
from bot.shipped_adapter import shipped_adapter
from dialogue.engine.base import AdapterRef


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose package of training holds one adapter."""
    folder = tmp_path / "some_training" / "adapters" / "support-en"
    folder.mkdir(parents=True)
    (tmp_path / "some_training" / "__init__.py").write_text('raise RuntimeError("nobody imports this")\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(room, "_PACKAGE", "some_training")
    return folder


def test_it_is_found_without_being_imported(shipped: Path) -> None:
    """The default settings name the adapter of the installation; the package that it lies in is never run."""
    assert shipped_adapter(Settings()) == AdapterRef("support-en", str(shipped))


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    "settings",
    [
        Settings(model=ModelSection(adapter="")),
        Settings(model=ModelSection(adapter="support-zz")),
        Settings(model=ModelSection(reference="hf:some/model")),
        Settings(engine=EngineSection(kind="scripted")),
        Settings(engine=EngineSection(kind="remote"), remote=RemoteSection(base_urls=("http://127.0.0.1:1",))),
    ],
)
def test_it_is_for_the_default_model_alone(settings: Settings) -> None:
    """Switched off, not there, another model or an engine that loads nothing here: the base model answers."""
    assert shipped_adapter(settings) is None


def test_an_installation_without_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package of training was taken out, nothing ships."""
    monkeypatch.setattr(room, "_PACKAGE", "a_package_that_is_not_there")
    assert shipped_adapter(Settings()) is None


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """A folder of the owner's answers with whatever model is configured; whether it fits is seen when it is loaded."""
    settings = Settings(model=ModelSection(reference="hf:some/model", adapter=str(tmp_path / "mine")))
    assert shipped_adapter(settings) == AdapterRef("mine", str(tmp_path / "mine"))
