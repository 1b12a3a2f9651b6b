"""The learning rate over a run. Pure."""

import math
from typing import Literal


def rate_factor(step: int, total: int, warmup: int, kind: Literal["cosine", "constant"]) -> float:
    """Return what the learning rate is multiplied with in step `step` of `total`, counted from 0; 0 < factor ≤ 1.

    It rises in equal parts over the first `warmup` steps. Cosine: (1 + cos(πt)) / 2, where t goes from 0 to 1 over the rest
    (Loshchilov and Hutter 2017, without restarts). No step has the rate 0, so none is for nothing.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
