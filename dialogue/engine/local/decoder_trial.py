"""Before a model is served it is tried: what it says over slots must be what it says by itself.

Families differ in their attention, and a new one may bring something that `slot_attention` does not know. So that nobody is
answered wrongly, short rows of tokens are computed both ways, packed, in pieces and out of step, their last tokens one by one.
"""

import sys
from typing import Final

import torch

from dialogue.engine.local.decoder_model import DecoderModel
from dialogue.engine.local.scheduler import Bounds, Scheduler, Sequence
from dialogue.engine.local.slot_attention import NAME
from dialogue.engine.local.slot_table import SlotTable
from dialogue.engine.local.span_attention import over_spans
from dialogue.errors import EngineUnavailable

LENGTHS: Final = (12, 8, 9)
ONE_BY_ONE: Final = 5  # tokens at the end of each; for some of them all rows are in the same step
STEP_TOKENS: Final = 5
TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.15}  # of the spread of the logits
INT8_TOLERANCE: Final = 0.05  # the default model is 0.006 apart


def settle_attention(model: DecoderModel) -> None:
    """Let a model keep what is fastest as far as it works: recorded steps, then its attention. Raises EngineUnavailable."""
    try:
        check_alike(model)
    except EngineUnavailable as error:
        if model.graphs is not None:
            _say(f"{error} It goes on without recorded steps.")
            model.graphs = None
        elif model.attention_over is not over_spans:
            _say(f"{error} Attention goes on request by request.")
            model.attention_over = over_spans
        else:
            raise
        settle_attention(model)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the supervisor logs what a child says


def check_alike(model: DecoderModel) -> None:
    """Raise EngineUnavailable where the logits over slots are not those of the model's own attention. Writes to the first places."""
    kind = type(model.model).__name__
    rows = [[(7 * number + 3 * place) % model.model.config.vocab_size for place in range(length)] for number, length in enumerate(LENGTHS)]
    try:
        pairs = list(zip(_by_itself(model, rows), _over_slots(model, rows), strict=True))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise EngineUnavailable(f"The engine local cannot serve a {kind}: {error}") from error
    difference = max(float((own - slots).abs().max() / own.std()) for own, slots in pairs)
    if not difference < (INT8_TOLERANCE if model.lora.is_rounded else TOLERANCE[model.model.dtype]):  # what is not a number is too much
        raise EngineUnavailable(f"The engine local cannot serve a {kind}: it does not say over slots what it says by itself.")


@torch.inference_mode()
def _by_itself(model: DecoderModel, rows: list[list[int]]) -> list[torch.Tensor]:
    """Return the logits after each row, (vocabulary,), by the model's own attention."""
    model.model.set_attn_implementation("eager")
    try:
        return [model.model(torch.tensor([row], device=model.device), use_cache=False).logits[0, -1].float() for row in rows]
    finally:
        model.model.set_attn_implementation(NAME)


def _over_slots(model: DecoderModel, rows: list[list[int]]) -> list[torch.Tensor]:
    """Return the same by the engine; the last tokens of each row follow as if they had been generated."""
    scheduler = Scheduler(SlotTable(model.store.places), Bounds(STEP_TOKENS, len(rows)))
    sequences = [Sequence(row[:-ONE_BY_ONE], room=len(row)) for row in rows]
    whole = dict(zip(sequences, rows, strict=True))
    for sequence in sequences:
        scheduler.submit(sequence)
    logits: dict[Sequence, torch.Tensor] = {}
    while not scheduler.idle:
        step = scheduler.plan()
        ended = [chunk.sequence for chunk in step.chunks if chunk.samples]
        logits |= dict(zip(ended, model.compute(step).clone(), strict=True))
        scheduler.commit(step)
        for sequence in ended:
            if len(sequence.tokens) < sequence.room:
                sequence.tokens.append(whole[sequence][len(sequence.tokens)])
            else:
                scheduler.end(sequence)
    return [logits[sequence] for sequence in sequences]
