"""Documents and pairs as token ids. The ids are those of serving: `dialogue.tokenizer` makes them, so no text becomes a control token."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dialogue.tokenizer import Tokenizer
from finetune.errors import RecipeInvalid
from finetune.pretraining.config import CONTROL_TOKENS, EncoderDecoderSection
from finetune.pretraining.corpus import Pair
from finetune.rendering import Row

END_OF_TEXT = CONTROL_TOKENS[0]


@dataclass(frozen=True, slots=True)
class PairRow:
    """What an encoder–decoder is trained on. Both sides end with the end of text."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def document_rows(documents: Iterable[str], tokenizer: Tokenizer, row_tokens: int) -> list[Row]:
    """Return documents cut into rows of at most `row_tokens` tokens, in each of which every token but the first is learned.

    A document begins and ends with the end of text. A row begins with the last token of the row before it, so that each token
    of a document is predicted exactly once.
    """
    border = separator(tokenizer)
    return [
        Row(ids, (False, *(True for _ in ids[1:])))
        for text in documents
        for ids in _cut((border, *tokenizer.encode(text), border), row_tokens)
    ]


def pair_rows(pairs: Iterable[Pair], tokenizers: tuple[Tokenizer, Tokenizer], sizes: EncoderDecoderSection) -> list[PairRow]:
    """Return the pairs that fit the model's positions. Raises RecipeInvalid with the key to change when none does."""
    ends = [separator(tokenizer) for tokenizer in tokenizers]
    rows = [PairRow((*tokenizers[0].encode(pair.source), ends[0]), (*tokenizers[1].encode(pair.target), ends[1])) for pair in pairs]
    short = [row for row in rows if len(row.source) <= sizes.input_positions]
    fitting = [row for row in short if len(row.target) <= sizes.target_positions]
    if not fitting:
        key, side = ("target_positions", "target") if short else ("input_positions", "source")
        raise RecipeInvalid(f"encoder_decoder.{key}: the {side} of every pair is longer than {getattr(sizes, key)} tokens.")
    return fitting


def target_counts(rows: Iterable[Row | PairRow]) -> Counter[int]:
    """Return how often each token has to be predicted."""
    return Counter(token for row in rows for token in _targets(row))


def separator(tokenizer: Tokenizer) -> int:
    """Return the token that stands between documents: the end of text where the model has one, else the end of a reply."""
    found = tokenizer.control_id(END_OF_TEXT)
    return found if found is not None else min(tokenizer.eos_ids)


def _cut(ids: tuple[int, ...], length: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(ids) - 1, length - 1):
        yield ids[start : start + length]


def _targets(row: Row | PairRow) -> Iterator[int]:
    if isinstance(row, PairRow):
        yield from row.target
    else:
        yield from (token for token, counts in zip(row.ids, row.loss_mask, strict=True) if counts)
