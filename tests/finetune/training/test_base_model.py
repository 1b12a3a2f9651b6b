"""Base models: from a GGUF file, from a folder, from the hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dialogue.engine.local import dequantised
from dialogue.engine.model_sources import ModelSources
from dialogue.errors import ModelDownloadFailed, ModelError
from finetune.training.base_model import find_base, load_base, load_weights
from finetune.training.forms import other_forms
from finetune.training.gguf_export import export_gguf
from finetune.training.gguf_model import float_gguf
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.model_hub import publish_on_hub, sources
from tests.finetune.training.tiny import write_tiny


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A hub on the loopback."""
    with file_server() as running:
        yield running


def test_a_gguf_file_is_dequantised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF file becomes a folder with the same weights, tokenizer and template; the second time it is only read."""
    folder = write_tiny(tmp_path / "model")
    path = export_gguf(folder, tmp_path / "model.gguf")
    base = load_base(str(path), tmp_path / "cache")
    wanted = load_weights(folder).state_dict()
    assert all(torch.equal(base.model.state_dict()[name], wanted[name]) for name in wanted)
    assert (base.folder / "chat_template.jinja").read_text() == base.files.template
    assert base.folder.parent == tmp_path / "cache" / "finetune"

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(dequantised, "_dequantise", fail)
    assert find_base(str(path), tmp_path / "cache").folder == base.folder


def test_dequantising_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing the folder fails, nothing of it is left."""
    path = export_gguf(write_tiny(tmp_path / "model"), tmp_path / "model.gguf")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dequantised, "copy_tokenizer", fail)
    with pytest.raises(OSError, match="No space"):
        find_base(str(path), tmp_path / "cache")
    assert list((tmp_path / "cache" / "finetune").iterdir()) == []


def test_forms_of_a_base(tmp_path: Path) -> None:
    """A GGUF base has two further forms, each by its own hash; a folder has none."""
    folder = write_tiny(tmp_path / "model")
    base = find_base(str(export_gguf(folder, tmp_path / "model.gguf")), tmp_path)
    forms = other_forms(base, tmp_path)
    assert forms == other_forms(base, tmp_path)
    assert len({*forms.values(), base.files.sha256}) == 3 or float_gguf(base.files, tmp_path).read_bytes() == base.files.path.read_bytes()
    assert other_forms(find_base(str(folder), tmp_path), tmp_path) == {}


def test_a_folder_that_is_no_decoder(tmp_path: Path) -> None:
    """A folder whose model is no causal language model is refused with a sentence."""
    folder = write_tiny(tmp_path / "model")
    (folder / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_weights(folder)


def test_a_hub_repository_with_safetensors(server: FileServer, tmp_path: Path) -> None:
    """hf:OWNER/NAME with safetensors is fetched once, verified, and found again without a network."""
    folder = write_tiny(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish_on_hub(
        server, "owner/tiny", {**files, "pytorch_model.bin": b"never", "modeling_evil.py": b"never"}, large=(".safetensors", ".bin")
    )
    base = find_base("hf:owner/tiny", tmp_path / "cache", sources(server))
    assert {path.name for path in base.folder.iterdir()} == set(files)
    assert torch.equal(load_weights(base.folder).lm_head.weight, load_weights(folder).lm_head.weight)
    nowhere = ModelSources(hub_url="http://127.0.0.1:9")
    assert find_base("hf:owner/tiny", tmp_path / "cache", nowhere).files.sha256 == base.files.sha256


def test_a_hub_that_is_not_there(tmp_path: Path, server: FileServer) -> None:
    """A repository that the hub does not have is told in a sentence."""
    with pytest.raises(ModelDownloadFailed):
        find_base("hf:owner/nothing", tmp_path, sources(server))
