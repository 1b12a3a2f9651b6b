"""The loss: packed rows are computed as if each were alone, and only trained tokens count."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune.rendering import Row
from finetune.training import isolation
from finetune.training.base_model import load_weights
from finetune.training.batches import Batch, collate
from finetune.training.isolation import keeps_apart
from finetune.training.objective import DecoderObjective, trained_logits
from finetune.training.packing import Pack
from tests.finetune.training.tiny import write_tiny

ROWS = tuple(
    Row(tuple(range(start, start + length)), (False, *[True] * (length - 1))) for start, length in ((20, 9), (40, 1), (60, 14), (90, 5))
)
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"tokenizer": "qwen", "template": "qwen3"},
    "gemma2": {"tokenizer": "gemma", "template": "gemma2"},
    "mistral": {"sliding_window": 6},
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A random model of one kind."""
    return load_weights(write_tiny(tmp_path / "model", request.param, **KINDS[request.param])).eval()


def test_packed_is_alone(model: Any) -> None:
    """In float32 the logits of packed and padded rows are those of each row alone."""
    batch = collate([Pack(ROWS), Pack(ROWS[2:])])
    with torch.no_grad():
        packed = trained_logits(model, batch)
        alone = torch.cat([model(input_ids=torch.tensor([row.ids])).logits[0, :-1] for row in (*ROWS, *ROWS[2:])])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_rows(model: Any) -> None:
    """The loss of a batch is the sum over its rows of transformers' own mean loss times tokens."""
    with torch.no_grad():
        ours = DecoderObjective().loss(model, collate([Pack(ROWS)]))
        ids = [torch.tensor([row.ids]) for row in ROWS if len(row.ids) > 1]
        theirs = sum(model(input_ids=each, labels=each).loss * (each.shape[1] - 1) for each in ids)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_gradients_come_from_trained_tokens_alone(model: Any) -> None:
    """A row whose mask is empty changes no gradient."""
    untrained = Row(tuple(range(100, 110)), (False,) * 10)
    gradients = [_gradients(model, collate([Pack(rows)])) for rows in (ROWS, (*ROWS, untrained))]
    for without, beside in zip(*gradients, strict=True):
        torch.testing.assert_close(without, beside, rtol=1e-3, atol=1e-5)


def _gradients(model: Any, batch: Batch) -> list[torch.Tensor]:
    model.zero_grad()
    DecoderObjective().loss(model, batch).backward()
    return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def test_packing_is_tried_before_it_is_trusted(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that keeps packed rows apart passes, and one that sees no borders does not."""
    assert keeps_apart(model, ROWS[2:])
    monkeypatch.setattr(isolation, "collate", _without_borders)
    assert not keeps_apart(model, ROWS[2:])
    assert keeps_apart(model, ROWS[:1])


def _without_borders(packs: list[Pack]) -> Batch:
    batch = collate(packs)
    return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}


def test_the_output_layer_is_left_as_it_was(model: Any) -> None:
    """After a loss the model gives logits for every token again."""
    trained_logits(model, collate([Pack(ROWS)]))
    assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.shape[1] == 3


def test_wrapped_models_are_called_as_a_whole(model: Any) -> None:
    """A wrapper for several devices is called itself, so that it sees the gradients."""
    calls: list[str] = []

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, **inputs: Any) -> Any:
            calls.append("forward")
            return self.module(**inputs)

    batch = collate([Pack(ROWS)])
    assert torch.equal(trained_logits(Wrapper(model), batch), trained_logits(model, batch))
    assert calls == ["forward"]
