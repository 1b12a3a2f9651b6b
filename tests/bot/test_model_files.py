"""What is fetched for the engine that the settings name."""

from pathlib import Path

from bot.model_files import cached_model, fetch_model
from bot.settings_sections import EngineSection, ModelSection
from tests.bot.apps import app_settings
from tests.fakes.file_server import file_server
from tests.fakes.model_hub import publish_on_hub
from tests.finetune.training.tiny import write_tiny


def test_the_engine_on_torch_takes_a_repository_of_the_hub(tmp_path: Path) -> None:
    """A repository of safetensors is fetched as a folder for `local`, and known again without a server."""
    files = {path.name: path.read_bytes() for path in write_tiny(tmp_path / "model").iterdir()}
    with file_server() as server:
        publish_on_hub(server, "owner/name", files, large=(".safetensors",))
        settings = app_settings(tmp_path).model_copy(
            update={"engine": EngineSection(kind="local"), "model": ModelSection(reference="hf:owner/name", hub_url=server.url)}
        )
        fetched = fetch_model(settings)
    assert fetched is not None
    assert fetched.path.is_dir()
    assert fetched.template
    assert cached_model(settings) == fetch_model(settings) == fetched
