"""Which samples are evaluated: as many of each kind as the recipe allows, the same ones every time. Pure."""

import hashlib
from collections.abc import Iterable, Sequence

from finetune.errors import FinetuneError
from finetune.evaluation.suites import BY_NAME, SUITES, Suite
from finetune.samples import Sample


def chosen_suites(names: Sequence[str], main: Sequence[str], suites: Sequence[Suite] = SUITES) -> tuple[Suite, ...]:
    """Return which of `suites` to run: those named and the main ones, all when none is named. Raises FinetuneError for an unknown name."""
    unknown = [name for name in (*names, *main) if name not in BY_NAME]
    if unknown:
        raise FinetuneError(f"There is no suite {unknown[0]!r}.", hint=f"There are: {', '.join(BY_NAME)}.")
    return tuple(suite for suite in suites if _is_wanted(suite, names, main))


def out_of_place(names: Sequence[str], main: Sequence[str], suites: Sequence[Suite]) -> tuple[str, ...]:
    """Return the titles of suites that are wanted, but are none of `suites`: those that make sense for the kind of model."""
    offered = {suite.name for suite in suites}
    left = [suite for suite in BY_NAME.values() if suite.name not in offered]
    return tuple(suite.title for suite in left if suite.name in {*names, *main} or (suite in SUITES and not names))


def _is_wanted(suite: Suite, names: Sequence[str], main: Sequence[str]) -> bool:
    return not names or suite.name in {*names, *main}


def pick(samples: Iterable[Sample], most: int, seed: int) -> list[Sample]:
    """Return at most `most` samples of each kind and built-in suite.

    The order is that of a hash of seed and id: a sample that comes or goes changes nothing about the others.
    """
    kept: dict[str, int] = {}
    picked: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: _place(sample, seed)):
        shelf = sample.extra.get("suite") or sample.kind.value
        if kept.get(shelf, 0) < most:
            kept[shelf] = kept.get(shelf, 0) + 1
            picked.append(sample)
    return picked


def _place(sample: Sample, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{sample.id}".encode()).digest()
