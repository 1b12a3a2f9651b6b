"""From files to a decoder: the default model for real, GGUF files, folders that are refused, memory that is not there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from dialogue.engine.bench.gpu.arms import random_adapter
from dialogue.engine.local import decoder_load, dequantised
from dialogue.engine.local.decoder_load import LoadedDecoder, Needs, load_decoder
from dialogue.engine.local.kv_store import KvStore, bytes_per_token
from dialogue.engine.local.scheduler import Sequence
from dialogue.engine.models import load_template, pull
from dialogue.errors import EngineUnavailable, ModelError
from dialogue.messages import ChatMessage, Role
from dialogue.tokenizer import Tokenizer
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
    untouched = decoder_load.load_weights(dequantised.torch_folder(files, model_cache()))
    assert made == [generated(untouched, prompt, 6) for prompt in prompts]
    assert "Paris" in decoder.tokenizer.decode(made[0])
    assert sequences[1].cached == 26  # the system section and what begins a question
    assert decoder.eos_ids == {0, 2}  # the end of a text and that of a turn


def test_the_gates_hold_for_the_default_model() -> None:
    """SmolLM2: in a batch, after interruptions, and under adapters of their own requests get the replies that they get alone."""
    files = default_model()
    weights = decoder_load.load_weights(dequantised.torch_folder(files, model_cache()))
    tokenizer = Tokenizer.load(files.tokenizer_path)
    prompts = [list(tokenizer.encode(f"{question} {question}")) for question in QUESTIONS]
    adapters = [random_adapter(Bench(weights).model, number, rank=4, strength=0.02) for number in (1, 2)]

    def replies(bench: Bench, *asked: tuple[int, int], before: Callable[[], None] = lambda: None) -> list[list[int]]:
        bench.model.install(bench.model.lora.prepare(None, adapters))
        sequences = [Sequence(list(prompts[prompt]), adapter=owner) for prompt, owner in asked]
        return bench.run(*sequences, count=6, before=lambda number: before() if number in {2, 5} else None)

    every = [(0, 0), (1, 0), (0, 1), (1, 2)]
    alone = [replies(Bench(weights), each)[0] for each in every]
    assert alone[0] != alone[2], "the adapter says nothing else"
    assert replies(Bench(weights), *every) == alone
    interrupted = Bench(weights)
    assert replies(interrupted, *every, before=interrupted.interrupt) == alone


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


def test_a_model_of_another_build_is_refused(tmp_path: Path) -> None:
    """A decoder whose layers are not where adapters and steps look for them is refused by its name."""
    config = transformers.GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot serve a GPT2LMHeadModel"):
        decoder_load.load_weights(tmp_path)


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
