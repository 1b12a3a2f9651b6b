"""From logits to the next token of one reply: penalty, top-k, top-p, temperature, in the order of llama.cpp."""

from collections.abc import Sequence
from typing import Final

import torch

from dialogue.engine.base import SamplingParams

PENALTY_WINDOW: Final = 64  # last tokens of the reply that the repetition penalty looks at, as with llama.cpp


def choose_token(logits: torch.Tensor, params: SamplingParams, made: Sequence[int], random: torch.Generator) -> int:
    """Return the next token. `logits` is one row, (vocabulary,); suppressed tokens are -inf there. `made` is the reply so far."""
    if params.repetition_penalty != 1:
        logits = _penalised(logits, params.repetition_penalty, made[-PENALTY_WINDOW:])
    if params.temperature == 0:
        return int(logits.argmax())
    count = min(params.top_k or logits.numel(), logits.numel())
    values, tokens = logits.float().topk(count)  # best first
    kept = _within_mass(values, params.top_p)
    return _drawn(tokens[:kept], torch.softmax(values[:kept] / params.temperature, dim=-1), random)


def _drawn(tokens: torch.Tensor, weights: torch.Tensor, random: torch.Generator) -> int:
    """Draw one token by one number between 0 and 1.

    The tokens stand in the order of the vocabulary for it: rounding, which differs with the batch, may swap neighbours in any other.
    """
    ordered, places = tokens.cpu().sort()
    bounds = weights.cpu().double()[places].cumsum(-1)
    point = torch.rand((), generator=random, dtype=torch.float64) * bounds[-1]
    return int(ordered[min(int(torch.searchsorted(bounds, point, right=True)), len(ordered) - 1)])


def _penalised(logits: torch.Tensor, penalty: float, recent: Sequence[int]) -> torch.Tensor:
    """Return logits with what was said lately made less likely (CTRL, Keskar et al. 2019)."""
    if not recent:
        return logits
    places = torch.tensor(sorted(set(recent)), device=logits.device)
    values = logits[places]
    return logits.index_put((places,), torch.where(values > 0, values / penalty, values * penalty))


def _within_mass(values: torch.Tensor, top_p: float) -> int:
    """Return how many of the best tokens reach the share `top_p` of the probability; at least one."""
    before = torch.softmax(values, dim=-1).cumsum(-1).roll(1)
    before[0] = 0.0
    return max(1, int((before < top_p).sum()))
