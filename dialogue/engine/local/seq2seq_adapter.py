"""LoRA of an encoder–decoder: checked against the model that is loaded, then merged into a copy of its weights."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from dialogue.engine.adapter_schema import Seq2SeqAdapterConfig
from dialogue.engine.adapters import BaseModelFacts, Matrix, load_named
from dialogue.errors import AdapterRejected

_PREFIX: Final = "base_model.model."  # PEFT's, before the name of each layer


class Seq2SeqAdapter:
    """An adapter that fits its base: for each layer, by name, the update of its weights."""

    def __init__(self, config: Seq2SeqAdapterConfig, tensors: Mapping[str, Matrix], sha256: str) -> None:
        """`sha256` is that of both files of its folder together."""
        self.sha256 = sha256
        self.scaling = config.scaling
        self._tensors = tensors

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the linear layers that are changed."""
        ending = ".lora_A.weight"
        return tuple(name.removeprefix(_PREFIX).removesuffix(ending) for name in self._tensors if name.endswith(ending))

    def update(self, layer: str) -> torch.Tensor:
        """Return scaling · B @ A, (outputs, inputs), float32."""
        a, b = (torch.from_numpy(self._tensors[_tensor_name(layer, side)]) for side in "AB")
        return self.scaling * (b @ a)


def load_seq2seq_adapter(folder: Path, model: Any, base: BaseModelFacts) -> Seq2SeqAdapter:
    """Return the adapter in `folder` if it is harmless and fits the loaded `model`. Raises AdapterRejected."""
    layers = linear_layers(model)

    def shapes_of(config: Seq2SeqAdapterConfig) -> dict[str, tuple[int, int]]:
        shapes: dict[str, tuple[int, int]] = {}
        for name in _targets(config, layers):
            outputs, inputs = layers[name].weight.shape
            shapes |= {_tensor_name(name, "A"): (config.r, inputs), _tensor_name(name, "B"): (outputs, config.r)}
        return shapes

    return Seq2SeqAdapter(*load_named(folder, base, Seq2SeqAdapterConfig, shapes_of))


def seq2seq_facts(architecture: str, sha256: str, tokenizer_sha256: str, layout_sha256: str) -> BaseModelFacts:
    """Return what an adapter is pinned to; which layers there are is asked of the model itself."""
    return BaseModelFacts(architecture, sha256, 0, 0, 0, {}, tokenizer_sha256, layout_sha256)


def merged(model: Any, adapter: Seq2SeqAdapter, scale: float) -> Any:
    """Return a copy of `model` with W + scale · scaling · B @ A in each layer that the adapter changes."""
    result = copy.deepcopy(model)
    layers = linear_layers(result)
    with torch.no_grad():
        for name in adapter.layers:
            weight = layers[name].weight
            weight += (scale * adapter.update(name)).to(weight.device, weight.dtype)
    return result


def linear_layers(model: Any) -> dict[str, nn.Linear]:
    """Return the layers that can carry LoRA, by name: every linear one but the output over the vocabulary."""
    output = model.get_output_embeddings()
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not output}


def _targets(config: Seq2SeqAdapterConfig, layers: Mapping[str, nn.Linear]) -> list[str]:
    """Return the layers that a configuration means: those whose name is a target or ends with one, as PEFT reads it."""
    if config.target_modules == "all-linear":
        return list(layers)
    wanted = config.target_modules
    found = [name for name in layers if any(name == target or name.endswith(f".{target}") for target in wanted)]
    lonely = next((target for target in wanted if not any(name == target or name.endswith(f".{target}") for name in layers)), None)
    if lonely is not None:
        raise AdapterRejected(f"The base model has no linear layer {lonely}.")
    return found


def _tensor_name(layer: str, side: str) -> str:
    return f"{_PREFIX}{layer}.lora_{side}.weight"
