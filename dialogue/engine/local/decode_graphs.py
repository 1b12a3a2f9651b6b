"""Steps in which everybody gets one token, recorded once for each size and replayed: a GPU is quicker with them than the host can ask.

A recorded step reads its tokens, positions and slots from the same places of the device each time. Fewer requests than the size that
was recorded are filled up with rows that write to the spare places of the store and that nobody reads. A change of adapters makes new
recordings necessary, except for those of the base model.

`record_on_cuda` has never run on a device. What is tested is everything around it, with a stand-in that computes where it would replay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from dialogue.engine.local.kv_store import SPARE_PLACES, KvStore
from dialogue.engine.local.lora_layers import LoraLayers, LoraMode
from dialogue.engine.local.memory import unless_out_of_memory
from dialogue.engine.local.scheduler import Chunk
from dialogue.engine.local.slot_attention import Rows
from dialogue.engine.local.uploads import upload
from dialogue.engine.local.varlen_attention import OverSlots, PackedRow

SIZES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256)  # requests of a recorded step; gaps of SPARE_PLACES at most


@dataclass(frozen=True, slots=True)
class Recording:
    """A step that can be computed again."""

    replay: Callable[[], None]
    logits: torch.Tensor  # (size, vocabulary), written by each replay


Record = Callable[[Callable[[], torch.Tensor]], Recording]


class _Inputs:
    """What a recorded step reads, at its fixed place on the device."""

    def __init__(self, size: int, store: KvStore, mask: torch.Tensor | None) -> None:
        self._spare = store.spare
        self._numbers = torch.empty(5, size + 1, dtype=torch.long, device=store.keys[0].device)
        self.mask = None if mask is None else mask.new_zeros(size, mask.shape[1])

    @property
    def size(self) -> int:
        return self._numbers.shape[1] - 1

    @property
    def tokens(self) -> torch.Tensor:
        return self._numbers[0:1, :-1]

    @property
    def positions(self) -> torch.Tensor:
        return self._numbers[1:2, :-1]

    @property
    def places(self) -> torch.Tensor:
        return self._numbers[2, :-1]

    def row(self) -> PackedRow:
        """Describe the step for the attention; part of what is recorded."""
        starts = torch.arange(self.size + 1, dtype=torch.int32, device=self._numbers.device)
        return PackedRow(starts, self._numbers[4].int(), self._numbers[3, :-1].int(), (1, self._spare + SPARE_PLACES))

    def set(self, chunks: Sequence[Chunk], tokens: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Let the next replay compute these, in the order of their slots; `tokens` is (1, chunks), more than the size before."""
        fill = list(range(self._spare, self._spare + self.size - len(chunks)))
        end = fill[-1] + 1 if fill else self._spare
        numbers = [
            [0] * (self.size + 1),
            [chunk.start for chunk in chunks] + [0] * (len(fill) + 1),
            [chunk.slot.start + chunk.start for chunk in chunks] + fill + [0],
            [chunk.start + 1 for chunk in chunks] + [1] * (len(fill) + 1),
            [chunk.slot.start for chunk in chunks] + fill + [end],
        ]
        self._numbers.copy_(upload(numbers, self._numbers.device))
        self.tokens[:, : len(chunks)] = tokens
        if self.mask is not None and mask is not None:
            self.mask[: len(chunks)] = mask


class DecodeGraphs:
    """The recorded steps of one model."""

    def __init__(self, model: Any, store: KvStore, lora: LoraLayers, attention: OverSlots, record: Record) -> None:
        self._model = model
        self._store = store
        self._lora = lora
        self._attention = attention
        self._record = record
        self._recorded: dict[tuple[int, LoraMode], tuple[_Inputs, Recording] | None] = {}  # None = there was no memory for it

    def compute(self, chunks: Sequence[Chunk], tokens: torch.Tensor) -> torch.Tensor | None:
        """Return the logits after each chunk, valid until the next call; None = it has to be computed in the ordinary way.

        Recorded are steps of which every chunk is one token that is followed by another: the last piece of a prompt may be one as well.

        `tokens` is (1, chunks). The adapters of the row have been chosen.
        """
        size = next((size for size in SIZES if size >= len(chunks)), None)
        if size is None or any(chunk.count != 1 or not chunk.samples for chunk in chunks) or self._lora.mode is LoraMode.MIXED:
            return None
        key, mask = (size, self._lora.mode), self._lora.mask
        if key not in self._recorded:
            self._recorded[key] = self._new(*key, chunks, tokens)
        recorded = self._recorded[key]
        if recorded is None:
            return None
        inputs, recording = recorded
        inputs.set(chunks, tokens, mask)
        recording.replay()
        return recording.logits[: len(chunks)]

    def forget_adapters(self) -> None:
        """Other adapters are installed: what was recorded with the former ones is of no use."""
        self._recorded = {key: recorded for key, recorded in self._recorded.items() if key[1] is LoraMode.BASE}

    def _new(self, size: int, mode: LoraMode, chunks: Sequence[Chunk], tokens: torch.Tensor) -> tuple[_Inputs, Recording] | None:
        """Record a step with its first requests in it: there are not so many spare places that nobody could fill it up."""
        mask = self._lora.mask
        inputs = _Inputs(size, self._store, mask)
        inputs.set(chunks, tokens, mask)

        def compute() -> torch.Tensor:
            self._lora.fix(mode, inputs.mask)
            output = self._model(
                input_ids=inputs.tokens,
                position_ids=inputs.positions,
                use_cache=False,
                rows=Rows(self._store, inputs.places, self._attention.packed(self._store, inputs.row())),
            )
            return output.logits[0].float()

        recording = unless_out_of_memory(lambda: self._record(compute))
        self._lora.fix(mode, mask)
        return None if recording is None else (inputs, recording)


def record_on_cuda(compute: Callable[[], torch.Tensor]) -> Recording:
    """Record what `compute` does on the device. Other threads may take memory meanwhile, as one that loads an adapter does."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        compute()  # what libraries prepare at their first call must not be recorded
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        logits = compute()
    return Recording(graph.replay, logits)
