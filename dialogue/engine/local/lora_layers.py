"""LoRA inside a model, for a row whose tokens belong to different adapters.

    no adapter      the layer as it is, bit by bit
    one adapter     a merged copy of the weights: a token costs what it costs without
    several         x Aᵀ for all adapters side by side, what is not a token's own set to 0, then Bᵀ: two more products, whatever the mix

The weights themselves never change. An adapter could be subtracted again instead of keeping a copy, but in bfloat16 what comes
back is not what was there, and the base model's answers would depend on which adapters have been loaded.

Layers may hold their weights in int8. A and B stay as they are; a merged copy is rounded once, from the sum with the exact weights,
which are read again for it: twice rounded would be twice as wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from dialogue.engine.local.int8_matrix import Int8Matrix, RoundedRows
from dialogue.engine.local.matrix import AnyMatrix, Matrix, MatrixLinear
from dialogue.engine.local.uploads import upload
from dialogue.engine.lora_pairs import ATTENTION, FEED_FORWARD, LoraPair, Place, Projection


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter, and what it is multiplied with."""

    number: int  # never used twice; 0 is the base model's
    pairs: Mapping[Place, LoraPair]
    rank: int
    scale: float  # the reference's and the adapter's own together


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A and B of several adapters for one linear part, in one matrix each."""

    a: Matrix  # (ranks of all, inputs)
    b: Matrix  # (outputs, ranks of all)


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """What a set of adapters needs on the device. Made in any thread, installed between two steps."""

    merged: int = 0  # the number of the adapter that is merged; 0 = none
    weights: Mapping[Place, AnyMatrix] = field(default_factory=dict)  # of the merged one
    side_by_side: Mapping[Place, SideBySide] = field(default_factory=dict)
    masks: Mapping[int, torch.Tensor] = field(default_factory=dict)  # by number: the scale at the adapter's own ranks, else 0


class LoraMode(StrEnum):
    """In which way the tokens of a row are adapted."""

    BASE = "base"
    MERGED = "merged"  # all of them by the one that is merged
    BESIDE = "beside"  # each by its own, or none, of those that stand side by side
    MIXED = "mixed"  # some by the merged one, some not


@dataclass(slots=True)
class _Choice:
    """Which adapter the tokens of the row that is computed now belong to."""

    merged: torch.Tensor | None = None  # (tokens of the merged one,) their places in the row
    all_merged: bool = False
    mask: torch.Tensor | None = None  # (tokens, ranks of all)


class LoraLayers:
    """Every linear part that can carry LoRA, in all layers of one model."""

    def __init__(self, model: Any) -> None:
        """Put a layer that knows of adapters in the place of each of them, or of one from before."""
        self._choice = _Choice()
        self._weights = LoraWeights()
        self._read_again: Callable[[], Any] | None = None
        self._device: torch.device = model.device
        self._layers = {place: _adapted(part, self._choice) for place, part in _linear_parts(model).items()}
        for (number, projection), layer in self._layers.items():
            setattr(_block(model.model.layers[number], projection), projection, layer)

    def merge_with(self, read_again: Callable[[], Any]) -> None:
        """Merge adapters with the weights of the model that this returns, because those of the layers have been rounded."""
        self._read_again = read_again

    @property
    def shapes(self) -> dict[Projection, tuple[int, int]]:
        """(outputs, inputs) of the parts that all layers have, of the same size."""
        found: dict[Projection, set[tuple[int, int]]] = {}
        for (_, projection), layer in self._layers.items():
            found.setdefault(projection, set()).add(layer.matrix.shape)
        return {projection: next(iter(sizes)) for projection, sizes in found.items() if len(sizes) == 1}

    @property
    def is_rounded(self) -> bool:
        """Whether weights are in int8."""
        return any(isinstance(layer.matrix, Int8Matrix) for layer in self._layers.values())

    @property
    def known(self) -> frozenset[int]:
        """The numbers of the adapters that are installed, and 0 for the base model."""
        return frozenset({0, self._weights.merged, *self._weights.masks})

    def prepare(self, merged: LoadedAdapter | None, others: Sequence[LoadedAdapter]) -> LoraWeights:
        """Return the weights of these adapters. Only reads, so it may run in any thread."""
        return LoraWeights(
            merged=0 if merged is None else merged.number,
            weights={} if merged is None else self._merge(merged),
            side_by_side={place: _side_by_side(place, layer, others) for place, layer in self._layers.items() if _touched(place, others)},
            masks=_masks(others, next(iter(self._layers.values())).matrix),
        )

    def install(self, weights: LoraWeights) -> None:
        """Compute with these adapters from the next step on."""
        self._weights = weights
        for place, layer in self._layers.items():
            layer.merged = weights.weights.get(place)
            layer.side_by_side = weights.side_by_side.get(place)

    def choose(self, adapters: Sequence[int], counts: Sequence[int]) -> None:
        """Say whose tokens the next row holds: `counts` tokens in a row for each of `adapters`."""
        weights, choice = self._weights, self._choice
        owners = [adapter for adapter, count in zip(adapters, counts, strict=True) for _ in range(count)]
        merged = [place for place, owner in enumerate(owners) if owner and owner == weights.merged]
        choice.all_merged = len(merged) == len(owners)
        choice.merged = upload(merged, self._device) if merged and not choice.all_merged else None
        choice.mask = None
        if weights.masks and any(owner in weights.masks for owner in owners):
            nothing = torch.zeros_like(next(iter(weights.masks.values())))
            choice.mask = torch.stack([weights.masks.get(owner, nothing) for owner in owners])

    @property
    def mode(self) -> LoraMode:
        """The way of the row that was chosen last."""
        choice = self._choice
        if choice.all_merged:
            return LoraMode.MERGED
        if choice.merged is not None:
            return LoraMode.MIXED
        return LoraMode.BASE if choice.mask is None else LoraMode.BESIDE

    @property
    def mask(self) -> torch.Tensor | None:
        """What each token of that row is multiplied with between A and B, (tokens, ranks of all); None = nothing stands beside."""
        return self._choice.mask

    def fix(self, mode: LoraMode, mask: torch.Tensor | None) -> None:
        """Choose for a row whose adapters stand in `mask` on the device, or are the same for all its tokens."""
        self._choice.all_merged, self._choice.merged = mode is LoraMode.MERGED, None
        self._choice.mask = mask

    def _merge(self, adapter: LoadedAdapter) -> dict[Place, AnyMatrix]:
        exact = _linear_parts(self._read_again()) if self._read_again is not None else self._layers
        return {
            place: self._layers[place].matrix.like(_sum(_plain(exact[place]), pair, adapter.scale)) for place, pair in adapter.pairs.items()
        }


class _AdaptedLinear(MatrixLinear):
    """A linear part of a layer, (1, tokens, inputs) → (1, tokens, outputs)."""

    def __init__(self, matrix: AnyMatrix, bias: torch.Tensor | None, choice: _Choice) -> None:
        super().__init__(matrix, bias)
        self.merged: AnyMatrix | None = None
        self.side_by_side: SideBySide | None = None
        self._choice = choice

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        choice = self._choice
        if choice.all_merged and self.merged is not None:
            return self.merged.product(rows, self.bias)
        result = self.matrix.product(rows, self.bias)
        if choice.mask is not None and self.side_by_side is not None:
            result = result + self.side_by_side.b.product(self.side_by_side.a.product(rows) * choice.mask)
        if choice.merged is not None and self.merged is not None:
            result[:, choice.merged] = self.merged.product(rows[:, choice.merged], self.bias)
        return result


def round_weights(model: Any) -> None:
    """Round the weights of all linear parts that can carry LoRA, and of the head, to int8, one after the other."""
    rows = RoundedRows()
    for (number, projection), part in _linear_parts(model).items():
        setattr(_block(model.model.layers[number], projection), projection, MatrixLinear(Int8Matrix(_plain(part), rows), part.bias))
    head = model.get_output_embeddings()
    model.set_output_embeddings(MatrixLinear(Int8Matrix(_plain(head), rows), head.bias))


def _adapted(part: nn.Linear | MatrixLinear, choice: _Choice) -> _AdaptedLinear:
    return _AdaptedLinear(part.matrix if isinstance(part, MatrixLinear) else Matrix(part.weight), part.bias, choice)


def has_known_layers(model: Any) -> bool:
    """Tell whether there are linear parts that can carry LoRA, in the places where Llama has them."""
    return isinstance(getattr(getattr(model, "model", None), "layers", None), nn.ModuleList) and bool(_linear_parts(model))


def _linear_parts(model: Any) -> dict[Place, nn.Linear | MatrixLinear]:
    """Return the linear parts of all layers that can carry LoRA."""
    return {
        (number, projection): part
        for number, layer in enumerate(model.model.layers)
        for projection in (*ATTENTION, *FEED_FORWARD)
        if isinstance(part := getattr(_block(layer, projection), projection, None), nn.Linear | MatrixLinear)
    }


def _plain(part: nn.Linear | MatrixLinear) -> torch.Tensor:
    return part.matrix.plain() if isinstance(part, MatrixLinear) else part.weight.detach()


def _sum(weight: torch.Tensor, pair: LoraPair, scale: float) -> torch.Tensor:
    """Return W + scale · B A."""
    a, b = (torch.from_numpy(matrix).to(weight.device) for matrix in (pair.a, pair.b))
    return (weight.float() + scale * (b @ a)).to(weight.dtype)


def _block(layer: Any, projection: Projection) -> Any:
    return getattr(layer, "self_attn" if projection in ATTENTION else "mlp", None)


def _touched(place: Place, adapters: Sequence[LoadedAdapter]) -> bool:
    return any(place in each.pairs for each in adapters)


def _side_by_side(place: Place, layer: _AdaptedLinear, adapters: Sequence[LoadedAdapter]) -> SideBySide:
    """Return all adapters' matrices; one that does not touch this part has zeros there."""
    outputs, inputs = layer.matrix.shape
    pairs = [each.pairs.get(place) for each in adapters]
    ranks = [each.rank for each in adapters]
    parts_a = [torch.zeros(r, inputs) if pair is None else torch.from_numpy(pair.a) for pair, r in zip(pairs, ranks, strict=True)]
    parts_b = [torch.zeros(outputs, r) if pair is None else torch.from_numpy(pair.b) for pair, r in zip(pairs, ranks, strict=True)]
    device, dtype = layer.matrix.device, layer.matrix.dtype
    return SideBySide(Matrix(torch.cat(parts_a).to(device, dtype)), Matrix(torch.cat(parts_b, dim=1).to(device, dtype)))


def _masks(adapters: Sequence[LoadedAdapter], like: AnyMatrix) -> dict[int, torch.Tensor]:
    """Return for each adapter a row over all ranks: its scale at its own, 0 elsewhere."""
    total = sum(each.rank for each in adapters)
    masks: dict[int, torch.Tensor] = {}
    start = 0
    for each in adapters:
        mask = torch.zeros(total)
        mask[start : start + each.rank] = each.scale
        masks[each.number] = mask.to(like.device, like.dtype)
        start += each.rank
    return masks
