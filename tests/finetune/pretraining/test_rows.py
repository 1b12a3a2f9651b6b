"""Documents and pairs as rows: every token is learned once, no text is a control token, padding changes no loss."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dialogue.tokenizer import Tokenizer
from finetune.errors import RecipeInvalid
from finetune.pretraining.config import EncoderDecoderSection
from finetune.pretraining.corpus import Pair
from finetune.pretraining.models import PAD_ID, build_encoder_decoder
from finetune.pretraining.pair_objective import PairObjective
from finetune.pretraining.rows import PairRow, document_rows, pair_rows, separator, target_counts
from tests.fakes.tiny_tokenizers import tiny_tokenizer

TOKENIZER: Tokenizer = tiny_tokenizer("smollm").load()
SIZES = EncoderDecoderSection(
    input_vocabulary=300, target_vocabulary=280, layers=1, d_model=16, heads=2, feed_forward=16, input_positions=12, target_positions=14
)


@given(st.lists(st.text(max_size=80), max_size=4), st.integers(4, 20))
def test_every_token_is_learned_once(documents: list[str], length: int) -> None:
    """The learned tokens of all rows are those of the documents with their ends; rows fit, and learn all but their first token."""
    rows = document_rows(documents, TOKENIZER, length)
    learned = [token for row in rows for token, counts in zip(row.ids, row.loss_mask, strict=True) if counts]
    assert learned == [token for text in documents for token in (*TOKENIZER.encode(text), separator(TOKENIZER))]
    assert all(2 <= len(row.ids) <= length and row.loss_mask == (False, *[True] * (len(row.ids) - 1)) for row in rows)
    assert target_counts(rows).total() == len(learned)


def test_a_row_goes_on_where_the_one_before_ended() -> None:
    """The first token of a row that continues a document is the last one of the row before; the first row begins with the end of text."""
    first, second, *_ = document_rows(["hello world, how are you today"], TOKENIZER, 5)
    assert first.ids[0] == separator(TOKENIZER)
    assert second.ids[0] == first.ids[-1]


def test_pairs_that_are_too_long_are_left_out() -> None:
    """Pairs that do not fit the positions of their side are left out; when none fits, the key to change is named."""
    pairs = [Pair("a", "b"), Pair("a " * 40, "b"), Pair("a", "b " * 40)]
    rows = pair_rows(pairs, (TOKENIZER, TOKENIZER), SIZES)
    assert rows == [PairRow((*TOKENIZER.encode("a"), separator(TOKENIZER)), (*TOKENIZER.encode("b"), separator(TOKENIZER)))]
    with pytest.raises(RecipeInvalid, match=r"encoder_decoder\.input_positions: the source of every pair"):
        pair_rows(pairs[1:2], (TOKENIZER, TOKENIZER), SIZES)
    with pytest.raises(RecipeInvalid, match=r"encoder_decoder\.target_positions: the target of every pair"):
        pair_rows(pairs[2:], (TOKENIZER, TOKENIZER), SIZES)


def test_padding_changes_no_loss() -> None:
    """The loss of a batch is the sum of the losses of its pairs alone, and counts every token of the targets."""
    model: Any = build_encoder_decoder(SIZES, (300, 280), seed=3).eval()
    objective = PairObjective(pad=PAD_ID, start=PAD_ID)
    rows = [PairRow((9, 8, 7, 0), (11, 0)), PairRow((5, 0), (12, 13, 14, 15, 0)), PairRow((6, 7, 0), (9, 9, 0))]
    with torch.no_grad():
        together = objective.loss(model, objective.collate(rows))
        alone = sum(objective.loss(model, objective.collate([row])) for row in rows)
    assert float(together) == pytest.approx(float(alone), rel=1e-5)
    assert objective.trained_tokens(objective.collate(rows)) == 10


def test_the_loss_is_that_of_the_model() -> None:
    """The loss per token is the one that the model itself computes from labels."""
    model: Any = build_encoder_decoder(SIZES, (300, 280), seed=3).eval()
    objective = PairObjective(pad=PAD_ID, start=PAD_ID)
    batch = objective.collate([PairRow((9, 8, 7, 0), (11, 12, 0))])
    with torch.no_grad():
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["targets"]).loss
        assert float(objective.loss(model, batch)) / 3 == pytest.approx(float(theirs), rel=1e-5)
