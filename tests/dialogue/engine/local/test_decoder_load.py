"""From files to a decoder: the default model for real, GGUF files, folders that are refused, memory that is not there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dialogue.engine.local import decoder_load, dequantised
from dialogue.engine.local.decoder_load import LoadedDecoder, Needs, load_decoder
from dialogue.engine.local.kv_store import KvStore, bytes_per_token
from dialogue.engine.local.scheduler import Sequence
from dialogue.engine.models import load_template, pull
from dialogue.errors import EngineUnavailable
from dialogue.messages import ChatMessage, Role
from tests.dialogue.engine.local.decoder_scene import Bench, generated
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import tiny_model, write_tiny_gguf
from tests.model_fixtures import default_model, model_cache

NEEDS = Needs(context_tokens=64, slots=2, cache_bytes=1 << 20)
QUESTIONS = ("What is the capital of France?", "What is two and two?")


def test_the_default_model_says_what_transformers_says() -> None:
    """SmolLM2, dequantised from its GGUF file: greedy ids equal generate(), in a batch, with a common beginning computed once."""
    files = default_model()
    decoder = load_decoder(files, model_cache(), NEEDS)
    template = load_template(files, decoder.tokenizer)
    prompts = [list(template.render_chat([ChatMessage(Role.USER, question)]).ids) for question in QUESTIONS]
    sequences = [Sequence(list(prompt)) for prompt in prompts]
    bench = Bench(decoder.model.model)
    made = bench.run(*sequences, count=6)
    assert made == [generated(decoder.model.model, prompt, 6) for prompt in prompts]
    assert "Paris" in decoder.tokenizer.decode(made[0])
    assert sequences[1].cached == 26  # the system section and what begins a question
    assert decoder.eos_ids == {0, 2}  # the end of a text and that of a turn


def folder_of(tmp_path: Path) -> Path:
    return write_tiny_decoder(tiny_model(), tmp_path / "model")


def load(folder: Path, tmp_path: Path, needs: Needs = NEEDS) -> LoadedDecoder:
    return load_decoder(pull(str(folder), tmp_path / "cache"), tmp_path / "cache", needs)


def test_a_gguf_file_says_what_its_folder_says(tmp_path: Path) -> None:
    """The same weights as a GGUF file and as a folder give the same tokens."""
    folder = folder_of(tmp_path)
    path = write_tiny_gguf(tiny_model(), tmp_path / "model.gguf")
    files = pull(str(path), tmp_path / "cache")
    unquantised = dequantised.torch_folder(files, tmp_path / "cache")
    replies = [Bench(decoder_load.load_weights(each)).run(Sequence([5, 6, 7])) for each in (folder, unquantised)]
    assert replies[0] == replies[1]


def test_a_model_with_code_is_refused(tmp_path: Path) -> None:
    """A folder that brings code of its own is not loaded."""
    folder = folder_of(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}), encoding="utf-8")
    with pytest.raises(EngineUnavailable, match="run code of its own"):
        load(folder, tmp_path)


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """A folder whose weights are not those that its configuration asks for is not served with random ones."""
    folder = folder_of(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), encoding="utf-8")
    with pytest.raises(EngineUnavailable, match=r"lacks weights, such as model\.layers\.2"):
        load(folder, tmp_path)


def test_positions_that_depend_on_the_row_are_refused(tmp_path: Path) -> None:
    """A model whose positions stretch with the longest text would answer one request by the length of another."""
    folder = folder_of(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    (folder / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}), encoding="utf-8")
    with pytest.raises(EngineUnavailable, match=r"stretched \(dynamic\)"):
        load(folder, tmp_path)


def test_pickled_weights_are_not_opened(tmp_path: Path) -> None:
    """Weights in another format than safetensors are refused."""
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(EngineUnavailable):
        load(folder, tmp_path)


def test_as_many_places_as_there_is_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and cache get what they ask for; where memory is short they get less, down to one request's context."""
    folder = folder_of(tmp_path)
    asked = 2 * 64 + (1 << 20) // bytes_per_token(load(folder, tmp_path).model.model)
    assert load(folder, tmp_path).model.store.places == asked
    real = KvStore.__init__

    def scarce(most: int) -> Any:
        def init(store: KvStore, model: Any, places: int) -> None:
            if places > most:
                raise torch.OutOfMemoryError("no memory")
            real(store, model, places)

        return init

    monkeypatch.setattr(KvStore, "__init__", scarce(300))
    assert load(folder, tmp_path).model.store.places == asked // 8
    monkeypatch.setattr(KvStore, "__init__", scarce(66))
    assert load(folder, tmp_path).model.store.places == 64
    monkeypatch.setattr(KvStore, "__init__", scarce(10))
    with pytest.raises(EngineUnavailable, match="64 tokens"):
        load(folder, tmp_path)
