"""Loss per token of an encoder–decoder's replies, in float32 in this process; see `losses`."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from finetune.evaluation.contenders import Contender
from finetune.evaluation.losses import with_adapters, worn
from finetune.training.seq2seq_examples import Pair
from finetune.training.seq2seq_objective import Seq2SeqObjective


class Seq2SeqLosses:
    """Implements `LossMeter` with one copy of the base model, in float32, and the adapters of all contenders on it."""

    def __init__(self, model: Any, contenders: Sequence[Contender]) -> None:
        """The adapters must have been checked. Raises FinetuneError."""
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = with_adapters(model.to(self._device), contenders).eval()
        self._objective = Seq2SeqObjective()

    def measure(self, contender: Contender, rows: Sequence[Pair]) -> Iterator[float]:
        """Yield for each pair Σ -ln p(token | source, what stands before it) over the tokens of its reply."""
        with worn(self._model, contender):
            for pair in rows:
                yield self._loss(pair)

    def _loss(self, pair: Pair) -> float:
        batch = {name: tensor.to(self._device) for name, tensor in self._objective.collate([(pair,)]).items()}
        with torch.inference_mode():
            return float(self._objective.loss(self._model, batch))
