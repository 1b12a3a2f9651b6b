"""Which words of a text say what it is about, so that texts can be compared by them."""

import re
from collections.abc import Iterable, Mapping
from math import log
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]{3,}|\d{2,}")
_HAN: Final = re.compile(r"[\u4e00-\u9fff]+")
_EMPTY: Final = frozenset(
    (
        "about", "and", "any", "are", "but", "can", "could", "did", "does", "for", "from", "get", "has", "have", "help", "how", "into",
        "its", "more", "need", "not", "one", "our", "please", "should", "tell", "than", "that", "the", "their", "them", "then", "there",
        "they", "this", "use", "want", "was", "way", "what", "when", "where", "which", "who", "why", "will", "with", "work", "would",
        "you", "your",
    )
)  # fmt: skip


def content_words(text: str) -> frozenset[str]:
    """Return what tells a text from others: words in lower case without an English plural, and pairs of Chinese characters."""
    folded = text.casefold()
    words = {_stem(word) for word in _WORD.findall(_HAN.sub(" ", folded)) if word not in _EMPTY}
    return frozenset(words | {run[at : at + 2] for run in _HAN.findall(folded) for at in range(len(run) - 1)})


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def rarity(texts: Iterable[frozenset[str]]) -> Mapping[str, float]:
    """Return for each word how much it tells: log(N / n) of N texts, n of which hold it (inverse document frequency)."""
    texts = list(texts)
    counts: dict[str, int] = {}
    for words in texts:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    return {word: log(len(texts) / count) for word, count in counts.items()}


def likeness(words: frozenset[str], others: frozenset[str], weights: Mapping[str, float]) -> float:
    """Return the weighted share of `words` that `others` holds, from 0 to 1."""
    total = sum(weights.get(word, 0.0) for word in words)
    return sum(weights.get(word, 0.0) for word in words & others) / total if total else 0.0
