"""A weight in the layout of the device multiplies as it does in its own."""

from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from dialogue.engine.local import matrix
from dialogue.engine.local.matrix import Matrix, onednn_packs, quicken_head
from tests.dialogue.engine.local.decoder_scene import noise, tiny_weights

SIZES = st.integers(1, 70)


@pytest.fixture(params=["packed", "plain"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both layouts, the second as with a torch that has no oneDNN."""
    if request.param == "plain":
        monkeypatch.setattr(matrix, "onednn_packs", lambda: False)
    else:
        assert onednn_packs()


@pytest.mark.usefixtures("layout")
def test_a_product_is_that_of_a_linear_layer() -> None:
    """For any number of rows, none included, with and without a bias; and the weight comes back bit by bit."""

    @given(st.integers(0, 40), SIZES, SIZES, st.booleans())
    @settings(max_examples=60, deadline=None)
    def holds(rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
        values, weight = noise(1, rows, inputs), noise(outputs, inputs)
        bias = noise(outputs) if has_bias else None
        packed = Matrix(weight)
        with torch.inference_mode():
            torch.testing.assert_close(packed.product(values, bias), functional.linear(values, weight, bias), atol=1e-4, rtol=1e-4)
        assert torch.equal(packed.plain(), weight)

    holds()


def test_bfloat16_stays_as_it_is() -> None:
    """Only float32 is laid out anew: a product of another type is that of a linear layer, bit by bit."""
    values, weight = noise(4, 9).bfloat16(), noise(6, 9).bfloat16()
    assert torch.equal(Matrix(weight).product(values), functional.linear(values, weight))


def nothing(rows: torch.Tensor, *_: Any) -> torch.Tensor:
    """A product that is wrong."""
    return rows.new_zeros(rows.shape[0], 7)


@pytest.mark.parametrize(
    "operators", [{}, {"_reorder_linear_weight": torch.ops.mkldnn._reorder_linear_weight, "_linear_pointwise": nothing}]
)
def test_operators_that_are_missing_or_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch, operators: dict[str, Any]) -> None:
    """A torch without them, or whose product is another one, multiplies in its own way."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operators))
    onednn_packs.cache_clear()
    assert not onednn_packs()
    monkeypatch.undo()
    onednn_packs.cache_clear()
    assert onednn_packs()


def test_the_head_of_a_model_is_laid_out_once() -> None:
    """Logits stay what they are, and asking twice changes nothing; tied embeddings are not touched."""
    weights = tiny_weights("llama with all heads")
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = weights(tokens).logits
        for _ in range(2):
            quicken_head(weights)
            torch.testing.assert_close(weights(tokens).logits, before, atol=1e-5, rtol=1e-5)
    assert weights.get_input_embeddings().weight.layout == torch.strided
