"""LoRA inside a model: merged, side by side, mixed in one row, changed while requests run."""

from typing import Any

import numpy as np
import pytest
import torch

from dialogue.engine.local.lora_layers import LoadedAdapter, LoraWeights
from dialogue.engine.local.scheduler import Sequence
from tests.dialogue.engine.local.adapter_scene import facts_of, made
from tests.dialogue.engine.local.decoder_scene import Bench, prompt_of, tiny_weights

PROMPTS = [prompt_of(length) for length in (9, 21, 30)]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma2"])
def weights(request: pytest.FixtureRequest) -> Any:
    return tiny_weights(request.param)


@pytest.fixture(scope="module")
def adapters(weights: Any, tmp_path_factory: pytest.TempPathFactory) -> list[LoadedAdapter]:
    """Three adapters of other ranks, on other layers, with other scales."""
    facts = facts_of(weights)
    return [made(tmp_path_factory.mktemp("adapter"), facts, number) for number in (1, 2, 3)]


def replies(weights: Any, installed: LoraWeights | None, owners: list[int]) -> list[list[int]]:
    """Return the replies to PROMPTS, each by the adapter that owns it, in one batch."""
    bench = Bench(weights)
    bench.model.install(installed or LoraWeights())
    return bench.run(*(Sequence(list(prompt), adapter=owner) for prompt, owner in zip(PROMPTS, owners, strict=True)))


def prepare(weights: Any, merged: LoadedAdapter | None, others: list[LoadedAdapter]) -> LoraWeights:
    return Bench(weights).model.lora.prepare(merged, others)


def test_the_update_is_what_peft_says(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """A merged weight is W + scale · B A, and the model's own stays what it was."""
    lora = Bench(weights).model.lora
    before = weights.model.layers[1].self_attn.q_proj.matrix.plain().clone()
    merged = lora.prepare(adapters[0], []).weights[1, "q_proj"].plain()
    pair = adapters[0].pairs[1, "q_proj"]
    np.testing.assert_allclose((merged - before).numpy(), adapters[0].scale * pair.b @ pair.a, atol=1e-5)
    assert torch.equal(weights.model.layers[1].self_attn.q_proj.matrix.plain(), before)


def test_merged_is_unmerged(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """An adapter says the same merged and side by side, and something else than the base model."""
    for adapter in adapters:
        owners = [adapter.number] * 3
        merged, apart = (
            replies(weights, installed, owners) for installed in (prepare(weights, adapter, []), prepare(weights, None, [adapter]))
        )
        assert merged == apart != replies(weights, None, [0] * 3)


def test_mixed_adapters_say_what_each_says_alone(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """In one batch the base model and several adapters, one of them merged or none, say what each says alone."""
    alone = [
        [reply[place] for place in range(3)]
        for reply in (replies(weights, prepare(weights, None, adapters), [number] * 3) for number in range(4))
    ]
    mixes = [prepare(weights, None, adapters), prepare(weights, adapters[0], adapters[1:]), prepare(weights, adapters[2], adapters[:2])]
    for installed in mixes:
        for owners in ([0, 1, 2], [3, 0, 1], [2, 2, 3], [1, 1, 0]):
            assert replies(weights, installed, owners) == [alone[owner][place] for place, owner in enumerate(owners)]


def test_the_base_model_is_untouched_bit_by_bit(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """Whatever is loaded, the base model's logits are those of a model without adapters, to the last bit."""

    def logits(installed: LoraWeights) -> torch.Tensor:
        bench = Bench(weights)
        bench.model.install(installed)
        bench.scheduler.submit(Sequence(list(PROMPTS[0]), room=20))
        return bench.model.compute(bench.scheduler.plan())

    bare = logits(LoraWeights())
    for installed in (prepare(weights, adapters[0], adapters[1:]), prepare(weights, None, adapters)):
        assert torch.equal(logits(installed), bare)


def test_adapters_come_and_go_while_requests_run(weights: Any, adapters: list[LoadedAdapter]) -> None:
    """A request keeps the adapter that it began with, whatever is loaded, merged or taken apart meanwhile."""
    one, two, three = adapters
    undisturbed = replies(weights, prepare(weights, one, []), [1, 0, 1])
    lora = Bench(weights).model.lora
    changes = {2: lora.prepare(None, [two, one]), 5: lora.prepare(three, [one]), 9: lora.prepare(one, [])}
    bench = Bench(weights)
    bench.model.install(lora.prepare(one, []))

    def change(number: int) -> None:
        if number in changes:
            bench.model.install(changes[number])

    assert (
        bench.run(*(Sequence(list(prompt), adapter=owner) for prompt, owner in zip(PROMPTS, [1, 0, 1], strict=True)), before=change)
        == undisturbed
    )
