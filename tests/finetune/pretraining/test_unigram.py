"""The goal of a first training: what can be known without looking at the context."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.pretraining.unigram import entropy, measure

counts = st.dictionaries(st.integers(0, 50), st.integers(1, 1000), min_size=1, max_size=20).map(Counter)


def test_known_values() -> None:
    """Equal counts of n tokens have entropy ln n; a single token has none."""
    assert entropy(Counter(range(8))) == pytest.approx(math.log(8))
    assert entropy(Counter({5: 9})) == 0
    assert entropy(Counter({1: 3, 2: 1})) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


@given(counts, counts)
def test_no_other_distribution_predicts_better(held_out: Counter[int], other: Counter[int]) -> None:
    """The mean loss of any fixed distribution on the held-out tokens is at least their entropy, so falling below it needs context."""
    smoothed = Counter({token: other[token] + 1 for token in {*held_out, *other}})
    total = smoothed.total()
    loss = -sum(count * math.log(smoothed[token] / total) for token, count in held_out.items()) / held_out.total()
    assert loss >= entropy(held_out) - 1e-9
    assert loss >= measure(other, held_out).goal - 1e-9
