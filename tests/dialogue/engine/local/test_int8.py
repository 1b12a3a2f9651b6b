"""Weights in int8: rounded once and alike for everybody, so that neither batch nor cache nor adapters change what a request is told."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from dialogue.engine.base import AdapterRef
from dialogue.engine.local import decoder_load, span_attention
from dialogue.engine.local.decoder import DecoderEngine, DecoderSettings
from dialogue.engine.local.decoder_load import INT8, LoadedDecoder, Needs, load_decoder, load_weights
from dialogue.engine.local.decoder_trial import check_alike
from dialogue.engine.local.int8_matrix import Int8Matrix, RoundedRows, int8_works
from dialogue.engine.local.lora_layers import LoadedAdapter, LoraLayers, LoraWeights, round_weights
from dialogue.engine.local.matrix import Matrix
from dialogue.engine.local.scheduler import Sequence
from dialogue.engine.models import pull
from dialogue.errors import AdapterRejected, EngineUnavailable
from tests.dialogue.engine.adapter_folders import EVERY_PROJECTION, write_adapter
from tests.dialogue.engine.local.adapter_scene import facts_of, made
from tests.dialogue.engine.local.decoder_scene import GREEDY, Bench, alone_and_together, no_mask, noise, prompt_of, tiny_weights
from tests.fakes.tiny_decoder import write_tiny_decoder
from tests.fakes.tiny_gguf import tiny_model

pytestmark = pytest.mark.skipif(not int8_works(), reason="this CPU does not multiply int8 rightly")

NEEDS = Needs(context_tokens=64, slots=2, cache_bytes=1 << 20, weights=INT8)
PROMPTS = [prompt_of(length) for length in (9, 21, 30)]
WARM = replace(GREEDY, temperature=0.8, top_p=0.9, top_k=20, repetition_penalty=1.2)
SIZES = st.integers(1, 70)


def rounded(weight: torch.Tensor) -> Int8Matrix:
    return Int8Matrix(weight, RoundedRows())


@given(st.integers(0, 40), SIZES, SIZES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_product_is_that_of_the_rounded_weight(rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
    """For any number of rows, none included, what is lost of them is lost in the fifth digit; the same rows again give the same."""
    values, matrix = noise(1, rows, inputs), rounded(noise(outputs, inputs))
    bias = noise(outputs) if has_bias else None
    wanted = functional.linear(values, matrix.plain(), bias)
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(matrix.product(values, bias), wanted, atol=inputs * 2e-4, rtol=0)


@given(SIZES, SIZES)
@settings(max_examples=30, deadline=None)
def test_a_weight_is_rounded_to_the_nearest_step(inputs: int, outputs: int) -> None:
    """Each number moves by half a step of its own output at most."""
    weight = noise(outputs, inputs)
    steps = weight.abs().amax(1, keepdim=True) / 127
    assert ((rounded(weight).plain() - weight).abs() <= steps * 0.501).all()


@given(st.integers(1, 20), SIZES, st.sampled_from([0.0, 1e-6, 1.0, 1e6]))
@settings(max_examples=40, deadline=None)
def test_a_row_knows_of_no_other_row(rows: int, inputs: int, loud: float) -> None:
    """Beside rows that are silent or a million times as loud, a row's product is what it is alone, bit by bit."""
    values, matrix = noise(1, rows, inputs), rounded(noise(13, inputs))
    company = torch.cat((values, loud * noise(1, 5, inputs)), dim=1)
    with torch.inference_mode():
        together = matrix.product(company)
        for row in range(rows):
            assert torch.equal(matrix.product(values[:, row : row + 1].contiguous())[0, 0], together[0, row])


def nothing(rows: torch.Tensor, *_: Any) -> torch.Tensor:
    """A product that is wrong."""
    return torch.zeros(*rows.shape[:-1], 3)


@pytest.fixture
def untried() -> Iterator[None]:
    """Nothing is known yet of the operators, nor afterwards."""
    int8_works.cache_clear()
    yield
    int8_works.cache_clear()


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize("operators", [{}, {"qlinear_prepack": torch.ops.onednn.qlinear_prepack, "qlinear_pointwise": nothing}])
def test_int8_is_refused_where_it_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operators: dict[str, Any]) -> None:
    """With operators that are missing or wrong, a model is refused in words that name the setting."""
    monkeypatch.setattr(torch.ops, "onednn", SimpleNamespace(**operators))
    with pytest.raises(EngineUnavailable, match=r"engine\.weights"):
        load(folder_of(tmp_path), tmp_path)


def test_int8_is_for_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a GPU it is refused: whoever asks for it shall not get other numbers without a word."""
    monkeypatch.setattr(decoder_load, "load_weights", on_gpu)
    with pytest.raises(EngineUnavailable, match="are for CPUs"):
        load(folder_of(tmp_path), tmp_path)


def on_gpu(_: Path) -> Any:
    """As much of a model on a GPU as is looked at."""
    return SimpleNamespace(device=torch.device("cuda"))


@pytest.fixture(scope="module", params=["llama", "llama with all heads", "qwen2", "gemma2"])
def weights(request: pytest.FixtureRequest) -> Any:
    model = tiny_weights(request.param)
    round_weights(model)
    return model


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "drawn"])
def test_a_batch_changes_no_reply(weights: Any, sampling: Any) -> None:
    """Among others, its prompt read in other pieces, a request gets the reply that it gets alone."""
    alone, together = alone_and_together(weights, PROMPTS, sampling)
    assert together == alone


def test_the_cache_changes_no_reply(weights: Any) -> None:
    """A request that goes on with a slot, or copies the beginning of another one, says what it says on an empty store."""
    bench = Bench(weights)
    bench.run(Sequence(prompt_of(20), key="talk"))
    later = [Sequence([*prompt_of(20), 9, 9], key="other"), Sequence([*prompt_of(11), 8])]
    assert [bench.run(sequence)[0] for sequence in later] == [
        Bench(weights).run(Sequence(list(sequence.tokens[:-12])))[0] for sequence in later
    ]
    assert [sequence.cached for sequence in later] == [20, 11]


def test_a_model_is_tried_before_it_is_served(weights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes the trial at the start, and does not with another attention."""
    check_alike(Bench(weights).model)
    monkeypatch.setattr(span_attention, "mask_of", no_mask)
    with pytest.raises(EngineUnavailable, match="does not say over slots what it says by itself"):
        check_alike(Bench(weights).model)


@pytest.fixture(scope="module")
def adapters(weights: Any, tmp_path_factory: pytest.TempPathFactory) -> list[LoadedAdapter]:
    facts = facts_of(weights)
    return [made(tmp_path_factory.mktemp("adapter"), facts, number) for number in (1, 2, 3)]


def test_mixed_adapters_say_what_each_says_alone(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """In one batch the base model, a merged adapter and one beside it say what each says alone, in the same way."""
    installed = Bench(weights).model.lora.prepare(adapters[0], adapters[1:])
    alone = [replies(weights, installed, [number] * 3) for number in range(4)]
    for owners in ([0, 1, 2], [3, 0, 1], [1, 1, 0]):
        assert replies(weights, installed, owners) == [alone[owner][place] for place, owner in enumerate(owners)]


def replies(weights: Any, installed: LoraWeights, owners: list[int]) -> list[list[int]]:
    bench = Bench(weights)
    bench.model.install(installed)
    return bench.run(*(Sequence(list(prompt), adapter=owner) for prompt, owner in zip(PROMPTS, owners, strict=True)))


def folder_of(tmp_path: Path) -> Path:
    return write_tiny_decoder(tiny_model(), tmp_path / "model")


def load(folder: Path, tmp_path: Path) -> LoadedDecoder:
    return load_decoder(pull(str(folder), tmp_path / "cache"), tmp_path / "cache", NEEDS)


def test_a_merged_adapter_is_rounded_once(tmp_path: Path) -> None:
    """What is rounded is the exact weight and the adapter together, not a rounded weight once more; A and B are not rounded."""
    folder = folder_of(tmp_path)
    lora, exact = load(folder, tmp_path).model.lora, LoraLayers(load_weights(folder))
    facts = facts_of(load_weights(folder))
    adapter = made(tmp_path / "adapter", facts, 1)
    found, wanted = (layers.prepare(adapter, [adapter]) for layers in (lora, exact))
    for place, matrix in found.weights.items():
        assert torch.equal(matrix.plain(), rounded(wanted.weights[place].plain()).plain())
        assert isinstance(found.side_by_side[place].a, Matrix)
    assert lora.is_rounded
    assert not exact.is_rounded


async def test_without_its_files_a_model_takes_no_other_adapter(tmp_path: Path) -> None:
    """When the exact weights cannot be read again an adapter is rejected in words, and the engine goes on with what it has."""
    folder = folder_of(tmp_path)
    facts = facts_of(load_weights(folder))
    files = pull(str(folder), tmp_path / "cache")
    engine = DecoderEngine(DecoderSettings(files, tmp_path / "cache", 64, 2, 1, 1, weights=INT8))
    reference = adapter_of(tmp_path / "adapter", replace(facts, architecture=files.architecture, sha256=files.sha256))
    await engine.start()
    try:
        shutil.rmtree(folder)
        with pytest.raises(AdapterRejected, match="model"):
            await engine.set_adapters([reference])
        assert engine.health().ready
    finally:
        await engine.close()


def adapter_of(folder: Path, facts: Any) -> AdapterRef:
    write_adapter(folder, facts, targets=EVERY_PROJECTION, rank=2)
    return AdapterRef("new", str(folder))
