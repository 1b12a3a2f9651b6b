"""A weight in int8 for a CPU: a quarter of the bytes that a step reads, and products of whole numbers.

    W ≈ scale of its output · int8                      rounded once, when the model is loaded
    x ≈ scale of its row · (int8 + int8 / 254)          rounded in every product, each row by itself

torch's own dynamic quantisation has one scale for all rows of a product, so that what one customer writes would change another one's
reply; here no row knows of another one, and sums of whole numbers are exact, in whatever company. It also rounds rows to 8 bits. Then
what attention says of a prompt that is read in other pieces, different in the sixth digit, falls on other steps, and after thirty layers
logits of the default model are apart by as much as they are spread. With two digits it is half a hundredth of that. Both digits are
multiplied as rows of one product, so that the weights are read once. The two operators are those of torch's own compiler and have
no documented name (see `matrix`).
"""

from functools import cache
from typing import Any, Final

import torch

LARGEST: Final = 127
BASE: Final = 2 * LARGEST  # parts of a step: what rounding leaves is half a step at most
ZERO_POINT: Final = 128  # rows go in unsigned, which is what CPUs have instructions for
TRIAL_INPUTS: Final = 64


class RoundedRows:
    """Rows in two digits. Remembers the last ones, because several matrices multiply the same. Belongs to one thread."""

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._rounded: tuple[torch.Tensor, torch.Tensor]

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whole numbers above ZERO_POINT, (2, …, inputs): each value's steps, and parts of a step; and scales, (…, 1)."""
        if rows is not self._rows:
            self._rows, self._rounded = rows, _two_digits(rows)
        return self._rounded


class Int8Matrix:
    """A weight, (outputs, inputs), rounded to int8 with one scale for each output. Raises RuntimeError where there are no operators."""

    def __init__(self, weight: torch.Tensor, rounded_rows: RoundedRows) -> None:
        weight = weight.detach()
        self.dtype = weight.dtype  # of rows and products
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        self.device: torch.device = weight.device
        self._rounded_rows = rounded_rows
        scales = _scales(weight)
        self._scales = scales.flatten()
        self._zero_points = torch.zeros(self.shape[0], dtype=torch.int64)
        self._packed = _packed((weight / scales).round_().to(torch.int8))

    def like(self, weight: torch.Tensor) -> "Int8Matrix":
        """Return another weight, rounded in the same way."""
        return Int8Matrix(weight, self._rounded_rows)

    def plain(self) -> torch.Tensor:
        """Return the weight, rounded as it is."""
        return self._packed.to_dense().T * self._scales[:, None]

    def product(self, rows: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Return x Wᵀ + b, (…, outputs), for rows of (…, inputs)."""
        if not rows.numel():
            return rows.new_zeros(*rows.shape[:-1], self.shape[0])
        digits, scales = self._rounded_rows.of(rows)
        high, low = _multiplied(digits, self._packed, self._scales, self._zero_points)
        result = high.add_(low, alpha=1 / BASE).mul_(scales)
        return result if bias is None else result.add_(bias)


@cache
def int8_works() -> bool:
    """Whether this torch, on this CPU, multiplies int8 rightly.

    CPUs without VNNI add pairs of products in 16 bits, which the largest numbers overflow; those are what is tried.
    """
    values, weight = torch.ones(5, TRIAL_INPUTS), torch.ones(3, TRIAL_INPUTS)
    try:
        with torch.inference_mode():
            found = Int8Matrix(weight, RoundedRows()).product(values)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.allclose(found, values @ weight.T)


def _two_digits(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scales = _scales(rows)
    steps = rows / scales
    high = steps.round()
    digits = torch.stack((high, steps.sub_(high).mul_(BASE).round_())).to(torch.int8)
    return digits.bitwise_xor_(-ZERO_POINT).view(torch.uint8), scales  # turning the first bit adds 128


def _scales(rows: torch.Tensor) -> torch.Tensor:
    """Return a 127th of the largest value of each row, (…, 1)."""
    return rows.abs().amax(-1, keepdim=True).div_(LARGEST).clamp_min_(torch.finfo(rows.dtype).tiny)


@torch.inference_mode()
def _packed(rounded: torch.Tensor) -> Any:
    return torch.ops.onednn.qlinear_prepack(rounded, None)


def _multiplied(rows: torch.Tensor, packed: Any, scales: torch.Tensor, zero_points: torch.Tensor) -> torch.Tensor:
    product: Any = torch.ops.onednn.qlinear_pointwise
    return product(rows, 1.0, ZERO_POINT, packed, scales, zero_points, None, 1.0, 0, torch.float32, "none", [], "")
