"""How much of a reference is in an answer: chrF, BLEU and ROUGE. Pure; every score is between 0 and 1, 1 = best.

chrF and BLEU are sacrebleu's (Popović 2015; Papineni et al. 2002), sentence by sentence. ROUGE is Lin's (2004): F1 over
the n-grams, or the longest common subsequence, of words; Chinese, Japanese and Korean are cut into characters, which have
no spaces between words.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Final

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)*")
_CJK_CHARACTER: Final = re.compile(f"[{_CJK}]")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; a Chinese, Japanese or Korean character is a word of its own."""
    return _WORD.findall(text.casefold())


def is_cjk(text: str) -> bool:
    """Whether a text has Chinese, Japanese or Korean characters."""
    return _CJK_CHARACTER.search(text) is not None


@cache
def _chrf() -> CHRF:
    return CHRF()


@cache
def _bleu(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer, effective_order=True)


def chrf(answer: str, references: Sequence[str]) -> float:
    """Return the chrF2 of an answer against the best of its references."""
    return _chrf().sentence_score(answer, list(references)).score / 100


def bleu(answer: str, references: Sequence[str]) -> float:
    """Return the BLEU-4 of one answer, with sacrebleu's smoothing; Chinese is cut into characters."""
    tokenizer = "zh" if is_cjk("".join(references)) else "13a"
    return _bleu(tokenizer).sentence_score(answer, list(references)).score / 100


def rouge_n(answer: str, references: Sequence[str], n: int) -> float:
    """Return ROUGE-n as F1 against the best reference."""
    found = _ngrams(words(answer), n)
    return max((_f1(sum((found & wanted).values()), found.total(), wanted.total()) for wanted in _all_ngrams(references, n)), default=0.0)


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Return ROUGE-L as F1 against the best reference."""
    found = words(answer)
    wanted = [words(reference) for reference in references]
    return max((_f1(common_subsequence(found, each), len(found), len(each)) for each in wanted), default=0.0)


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in time len(left) · len(right)."""
    row = [0] * (len(right) + 1)
    for item in left:
        diagonal = 0
        for at, other in enumerate(right, start=1):
            diagonal, row[at] = row[at], diagonal + 1 if item == other else max(row[at], row[at - 1])
    return row[-1]


def _ngrams(items: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(items[at : at + n]) for at in range(len(items) - n + 1))


def _all_ngrams(references: Sequence[str], n: int) -> list[Counter[tuple[str, ...]]]:
    return [_ngrams(words(reference), n) for reference in references]


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if common else 0.0
