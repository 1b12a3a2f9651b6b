"""What a model reaches that knows how often each token occurs and nothing of its context: the least that a first training must beat."""

import math
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unigram:
    """Entropies in nats per token."""

    corpus: float  # of everything that has to be predicted, trained or held out
    held_out: float  # of the held-out part alone: no model without context predicts it better, not even one fitted to it

    @property
    def goal(self) -> float:
        """The held-out loss below which a model is known to use its context."""
        return min(self.corpus, self.held_out)


def measure(train: Counter[int], held_out: Counter[int]) -> Unigram:
    """Return the entropies of a corpus from the counts of its tokens."""
    return Unigram(entropy(train + held_out), entropy(held_out))


def entropy(counts: Counter[int]) -> float:
    """Return H = -Σ p ln p in nats, p = count / total; 0 for no token.

    Source: Shannon 1948, "A Mathematical Theory of Communication", section 6. That no fixed distribution q has a lower mean
    -ln q on the counted tokens is Gibbs' inequality.
    """
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values() if count)
