"""Loss per assistant token, in float32 in this process: the one score that needs no answer.

It is computed here and not by the engine that serves, because no engine hands out the probabilities of a text that it did not write.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import peft
import torch
from torch.nn import functional

from finetune.errors import FinetuneError
from finetune.evaluation.contenders import Contender
from finetune.rendering import Row
from finetune.training.base_model import load_weights


class TorchLosses:
    """Implements `LossMeter` for decoders with one copy of the base model and the adapters of all contenders on it."""

    def __init__(self, folder: Path, contenders: Sequence[Contender]) -> None:
        """Load the model in `folder` and the adapters, which must have been checked. Raises ModelError and FinetuneError."""
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = with_adapters(load_float(folder).to(self._device), contenders).eval()

    def measure(self, contender: Contender, rows: Sequence[Row]) -> Iterator[float]:
        """Yield for each row Σ -ln p(token | what stands before it) over its trained tokens."""
        with worn(self._model, contender):
            for row in rows:
                yield self._loss(row)

    def _loss(self, row: Row) -> float:
        ids = torch.tensor([row.ids], device=self._device)
        trained = torch.tensor(row.loss_mask[1:], device=self._device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids).logits[0, :-1][trained]
            return float(functional.cross_entropy(logits, ids[0, 1:][trained], reduction="sum"))


def load_float(folder: Path) -> Any:
    """Return the causal language model in a folder of transformers' files, in float32 on every device. Raises ModelError."""
    return load_weights(folder, dtype=torch.float32)


def with_adapters(model: Any, contenders: Sequence[Contender]) -> Any:
    """Return the model with every contender's adapter loaded, none in effect yet. Raises FinetuneError."""
    adapted = model
    for contender in contenders:
        if contender.folder is not None:
            adapted = _with_adapter(adapted, contender.folder, contender.place.value)
    return adapted


def wearing(model: Any, contender: Contender) -> Any:
    """Return the model with the adapter of one contender in effect for good. Raises FinetuneError."""
    adapted = with_adapters(model, [contender])
    adapted.set_adapter(contender.place.value)
    return adapted


def _with_adapter(model: Any, folder: Path, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will change
            if not isinstance(model, peft.PeftModel):
                return peft.PeftModel.from_pretrained(model, folder, adapter_name=name)
            model.load_adapter(folder, adapter_name=name)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        raise FinetuneError(f"The {name} {folder} cannot be loaded: {error}") from error
    return model


def worn(model: Any, contender: Contender) -> AbstractContextManager[object]:
    """Return a context in which `model`, from `with_adapters`, speaks as `contender`."""
    if contender.folder is None:
        return model.disable_adapter() if isinstance(model, peft.PeftModel) else nullcontext()
    model.set_adapter(contender.place.value)
    return nullcontext()
