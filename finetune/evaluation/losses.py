"""Loss per assistant token, in float32 in this process: the one score that needs no answer.

It is computed here and not by the engine that serves, because no engine hands out the probabilities of a text that it did not write.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import peft
import torch
from torch.nn import functional

from finetune.errors import FinetuneError
from finetune.evaluation.bootstrap import Counts
from finetune.evaluation.contenders import Contender
from finetune.rendering import Row

OnRow = Callable[[], None]


class LossMeter(Protocol):
    """What measures the loss of one contender."""

    def measure(self, contender: Contender, rows: Sequence[Row], on_row: OnRow) -> Counts:
        """Return for each row the sum of its losses in nats, and the tokens that were counted."""
        ...


class TorchLosses:
    """Implements `LossMeter` with one copy of the base model and the adapters of all contenders on it."""

    def __init__(self, model: Any, contenders: Sequence[Contender]) -> None:
        """Put the adapters on `model`, a causal language model of transformers. They must have been checked. Raises FinetuneError."""
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = with_adapters(model.float().to(self._device), contenders).eval()

    def measure(self, contender: Contender, rows: Sequence[Row], on_row: OnRow) -> Counts:
        """Return for each row the sum of its losses in nats, and the tokens that were counted."""
        sums: list[float] = []
        with worn(self._model, contender), torch.inference_mode():
            for row in rows:
                sums.append(self._loss(row))
                on_row()
        return Counts(tuple(sums), tuple(float(row.trained_tokens) for row in rows))

    def _loss(self, row: Row) -> float:
        """Return Σ -ln p(token | what stands before it) over the trained tokens of a row."""
        ids = torch.tensor([row.ids], device=self._device)
        trained = torch.tensor(row.loss_mask[1:], device=self._device)
        logits = self._model(input_ids=ids).logits[0, :-1][trained]
        return float(functional.cross_entropy(logits.float(), ids[0, 1:][trained], reduction="sum"))


def with_adapters(model: Any, contenders: Sequence[Contender]) -> Any:
    """Return the model with every contender's adapter loaded, none in effect yet. Raises FinetuneError."""
    adapted = model
    for contender in contenders:
        if contender.folder is not None:
            adapted = _with_adapter(adapted, contender.folder, contender.place.value)
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
