"""From logits to the next tokens of several replies at once, on the device. The rules of `token_choice`, row by row the same.

Each reply draws with its own random numbers, so what else is in the batch changes nothing: same seed, same reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dialogue.engine.base import SamplingParams
from dialogue.engine.local.token_choice import PENALTY_WINDOW
from dialogue.engine.local.uploads import upload


@dataclass(frozen=True, slots=True)
class Draw:
    """What one reply brings along."""

    params: SamplingParams
    made: Sequence[int]  # the reply so far
    point: float  # a random number from 0 to 1, 1 excluded
    never: Sequence[int] = ()  # tokens that must not come
    unread: int | None = None  # the row of `before` that holds the token after `made`; None = `made` is all


def choose_tokens(logits: torch.Tensor, draws: Sequence[Draw], before: torch.Tensor | None = None) -> torch.Tensor:
    """Return the next token of each row of `logits`, (rows, vocabulary), float32: (rows,), on the device, without waiting for it.

    `before` are the tokens that the last step chose, where the host has not read them yet.
    """
    logits = _without(logits, draws)
    logits = _penalised(logits, draws, before)
    tokens = logits.argmax(-1)
    warm = [row for row, draw in enumerate(draws) if draw.params.temperature > 0]
    if warm:
        rows = upload(warm, logits.device)
        tokens[rows] = _drawn(logits[rows], [draws[row] for row in warm])
    return tokens


def _without(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    rows = [row for row, draw in enumerate(draws) for _ in draw.never]
    if not rows:
        return logits
    never = [token for draw in draws for token in draw.never]
    return logits.index_put((upload(rows, logits.device), upload(never, logits.device)), logits.new_full((), -torch.inf))


def _penalised(logits: torch.Tensor, draws: Sequence[Draw], before: torch.Tensor | None) -> torch.Tensor:
    """Return logits with what was said lately made less likely (CTRL, Keskar et al. 2019)."""
    recent = [_recent(draw) if draw.params.repetition_penalty != 1 else set() for draw in draws]
    rows = upload([row for row, tokens in enumerate(recent) for _ in tokens], logits.device)
    tokens = upload([token for tokens in recent for token in tokens], logits.device)
    unread = {row: draw.unread for row, draw in enumerate(draws) if draw.unread is not None and draw.params.repetition_penalty != 1}
    if before is not None and unread:  # one that stands among the recent ones too is given the same value twice
        rows = torch.cat([rows, upload(list(unread), logits.device)])
        tokens = torch.cat([tokens, before[upload(list(unread.values()), logits.device)]])
    if not len(rows):
        return logits
    penalties = _column(logits, [draw.params.repetition_penalty for draw in draws])[rows, 0]
    values = logits[rows, tokens]
    return logits.index_put((rows, tokens), torch.where(values > 0, values / penalties, values * penalties))


def _recent(draw: Draw) -> set[int]:
    """Return the tokens that the penalty looks at, but for the unread one."""
    window = PENALTY_WINDOW if draw.unread is None else PENALTY_WINDOW - 1
    return set(draw.made[-window:])


def _drawn(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Draw one token for each row; tokens stand in the order of the vocabulary for it, as in `token_choice`."""
    limits = [min(draw.params.top_k or logits.shape[1], logits.shape[1]) for draw in draws]
    values, tokens = logits.topk(max(limits))  # best first
    ranks = torch.arange(max(limits), device=logits.device)
    values = values.masked_fill(ranks >= _column(logits, limits), -torch.inf)
    shares = torch.softmax(values, dim=-1)
    before = shares.cumsum(-1).roll(1, -1)  # what better tokens reach together
    before[:, 0] = 0.0
    kept = (before < _column(logits, [draw.params.top_p for draw in draws])) & (values > -torch.inf)
    kept[:, 0] = True
    values = values.masked_fill(~kept, -torch.inf)
    weights = torch.softmax(values / _column(logits, [draw.params.temperature for draw in draws]), dim=-1)
    ordered, places = tokens.sort(-1)
    bounds = weights.double().gather(-1, places).cumsum(-1)
    points = upload([[draw.point] for draw in draws], logits.device, torch.float64) * bounds[:, -1:]
    last = (bounds < bounds[:, -1:]).sum(-1, keepdim=True)  # the first place where the whole weight is reached
    chosen = torch.minimum((bounds <= points).sum(-1, keepdim=True), last)
    return ordered.gather(-1, chosen)[:, 0]


def _column(like: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    return upload(values, like.device, like.dtype)[:, None]
