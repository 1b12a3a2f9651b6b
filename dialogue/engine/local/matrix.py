"""A weight as its device multiplies with it: on a CPU in the layout of oneDNN, on a GPU as it is.

torch hands float32 products to MKL, which on an AMD EPYC takes for a step of two to sixteen tokens three times as long as for reading
the weights once. oneDNN, which torch brings too, does not, if it may lay the weights out as it likes. torch's own compiler uses it in
this way, by the same two operators; they have no documented name. Where they are missing or say something else, nothing changes.
"""

from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dialogue.engine.local.int8_matrix import Int8Matrix

TRIAL_SHAPE = (5, 3, 7)  # rows, inputs, outputs


class Matrix:
    """A weight, (outputs, inputs). Its numbers are kept once, in one layout or the other."""

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.detach()
        self._is_packed = weight.dtype == torch.float32 and not weight.is_cuda and onednn_packs()
        self._weight = _packed(weight) if self._is_packed else weight
        self.dtype = weight.dtype
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        self.device: torch.device = weight.device

    def like(self, weight: torch.Tensor) -> "Matrix":
        """Return another weight, laid out in the same way."""
        return Matrix(weight)

    def plain(self) -> torch.Tensor:
        """Return the weight as it was given, bit by bit."""
        return self._weight.to_dense() if self._is_packed else self._weight

    def product(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x Wᵀ + b, (…, outputs), for rows of (…, inputs)."""
        if not self._is_packed or not rows.numel():
            return functional.linear(rows, self.plain(), bias)
        return _multiplied(rows, self._weight, bias)


AnyMatrix = Matrix | Int8Matrix


class MatrixLinear(nn.Module):
    """A linear layer that multiplies by a matrix in some layout."""

    def __init__(self, matrix: AnyMatrix, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.matrix = matrix
        self.bias = bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(…, inputs) → (…, outputs)."""
        return self.matrix.product(rows, self.bias)


def quicken_head(model: Any) -> None:
    """Let a model compute its logits with a `Matrix`. Harmless when it does."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear:
        model.set_output_embeddings(MatrixLinear(Matrix(head.weight), head.bias))


@cache
def onednn_packs() -> bool:
    """Whether this torch can lay out a weight for oneDNN, and multiplies rightly with it."""
    rows, inputs, outputs = TRIAL_SHAPE
    weight = torch.linspace(-1, 1, inputs * outputs).reshape(outputs, inputs)
    values, bias = torch.linspace(-2, 2, rows * inputs).reshape(rows, inputs), torch.ones(outputs)
    try:
        with torch.inference_mode():
            found = _multiplied(values, _packed(weight), bias)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(found, functional.linear(values, weight, bias), atol=1e-5)


@torch.inference_mode()
def _packed(weight: torch.Tensor) -> Any:
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)


def _multiplied(rows: torch.Tensor, packed: Any, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
