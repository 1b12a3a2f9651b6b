"""Tokens of several replies are chosen at once as `token_choice` chooses each of them alone."""

import random
from dataclasses import replace

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from dialogue.engine.base import SamplingParams
from dialogue.engine.local.token_choice import choose_token
from dialogue.engine.local.token_sampling import Draw, choose_tokens
from tests.sizes import size

VOCABULARY = 40


def params(rng: random.Random) -> SamplingParams:
    """Return any settings."""
    return SamplingParams(
        temperature=rng.choice((0, 0.2, 1.0, 1.7)),
        top_p=rng.choice((0.1, 0.5, 0.95, 1.0)),
        top_k=rng.choice((0, 1, 5, 1000)),
        repetition_penalty=rng.choice((1, 1.3)),
        seed=rng.randrange(1000),
    )


def draw_of(params: SamplingParams, made: list[int]) -> Draw:
    return Draw(params, made, float(torch.rand((), generator=torch.Generator().manual_seed(params.seed), dtype=torch.float64)))


@given(st.integers(0, 2**32), st.integers(1, 9))
@settings(max_examples=size("sampled_batches", small=150, proof=5000), deadline=None)
def test_each_row_is_chosen_as_if_alone(seed: int, rows: int) -> None:
    """Whatever the settings of the other rows, a row gets the token that the rules for one row give it."""
    rng = random.Random(seed)
    logits = 3 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))
    draws = [draw_of(params(rng), [rng.randrange(VOCABULARY) for _ in range(rng.randrange(80))]) for _ in range(rows)]
    alone = [
        choose_token(row, draw.params, draw.made, torch.Generator().manual_seed(draw.params.seed))
        for row, draw in zip(logits, draws, strict=True)
    ]
    assert choose_tokens(logits, draws).tolist() == alone
    order = rng.sample(range(rows), rows)  # where the last step has left the last token of each reply, if the host does not know it yet
    before = torch.tensor([(draws[row].made or [0])[-1] for row in order])
    unread = [replace(draw, made=draw.made[:-1], unread=order.index(row)) if draw.made else draw for row, draw in enumerate(draws)]
    assert choose_tokens(logits, unread, before).tolist() == alone


def test_shares_are_those_of_the_weights() -> None:
    """Points spread evenly over 0 to 1 choose each token as often as its probability says."""
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().repeat(1000, 1)
    warm = SamplingParams(temperature=1, top_p=1, top_k=0, repetition_penalty=1)
    tokens = choose_tokens(logits, [Draw(warm, (), (number + 0.5) / 1000) for number in range(1000)]).tolist()
    assert [tokens.count(token) for token in range(4)] == [100, 200, 300, 400]


def test_forbidden_tokens_never_come() -> None:
    """A token that a row must not say is not said, greedily or drawn; other rows may say it."""
    logits = torch.zeros(3, 4)
    logits[:, 2] = 50
    greedy, warm = SamplingParams(temperature=0), SamplingParams(temperature=1)
    tokens = choose_tokens(logits, [Draw(greedy, (), 0.0, (2,)), Draw(warm, (), 0.5, (2,)), Draw(greedy, (), 0.0)]).tolist()
    assert 2 not in tokens[:2]
    assert tokens[2] == 2


def test_the_last_point_chooses_a_possible_token() -> None:
    """A point just below 1 chooses the last token that is possible, not one that was cut away."""
    logits = torch.tensor([[5.0, 4.0, -9.0, -9.0]])
    narrow = SamplingParams(temperature=1, top_p=1, top_k=2, repetition_penalty=1)
    assert choose_tokens(logits, [Draw(narrow, (), 1 - 2**-53)]).tolist() == [1]
