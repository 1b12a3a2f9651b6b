"""Packing: nothing is lost, nothing crosses a border."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.rendering import Row
from finetune.training.batches import collate
from finetune.training.packing import Pack, fill_rate, pack_rows

CAPACITY = 24
TOKENS = st.tuples(st.integers(1, 90), st.booleans())
ROWS = st.lists(TOKENS, min_size=1, max_size=CAPACITY).map(lambda row: Row(tuple(i for i, _ in row), tuple(mask for _, mask in row)))


def row(*ids: int) -> Row:
    """Return a row whose every token is trained."""
    return Row(ids, tuple(True for _ in ids))


@given(st.lists(ROWS))
def test_every_row_is_in_one_pack(rows: list[Row]) -> None:
    """Packs hold every row as often as it was given, whole, and no pack holds more than its capacity."""
    packs = pack_rows(rows, CAPACITY)
    assert Counter(row for pack in packs for row in pack.rows) == Counter(rows)
    assert all(0 < pack.length <= CAPACITY for pack in packs)


@given(st.lists(ROWS, min_size=1))
def test_no_two_packs_fit_together(rows: list[Row]) -> None:
    """Packing is never so loose that two packs could be one."""
    lengths = sorted(pack.length for pack in pack_rows(rows, CAPACITY))
    assert len(lengths) == 1 or lengths[0] + lengths[1] > CAPACITY


@given(st.lists(ROWS, min_size=1, max_size=6))
def test_labels_never_cross_a_border(rows: list[Row]) -> None:
    """What is predicted at a place is the next token of the same row, and only where the row's mask says so."""
    pack = Pack(tuple(rows))
    for place, token in pack.trained:
        assert pack.ids[place + 1] == token
        assert pack.position_ids[place + 1] == pack.position_ids[place] + 1
    assert len(pack.trained) == sum(sum(row.loss_mask[1:]) for row in rows)


@pytest.mark.parametrize("length", [0, CAPACITY + 1])
def test_a_row_that_does_not_fit_is_refused(length: int) -> None:
    """A row that is empty or longer than a pack is refused, not cut."""
    with pytest.raises(ValueError, match="does not fit"):
        pack_rows([row(*range(1, length + 1))], CAPACITY)


def test_fill_rate() -> None:
    """The fill rate is the share of places that hold a token; of nothing it is 0."""
    assert fill_rate(pack_rows([row(*range(18)), row(*range(6)), row(*range(12))], CAPACITY), CAPACITY) == 0.75
    assert fill_rate([], CAPACITY) == 0


def test_a_batch_says_where_the_loss_looks() -> None:
    """Places count through the padded batch, and the padding is a row of its own that is never trained."""
    batch = collate([Pack((row(5, 6), row(7, 8, 9))), Pack((row(3, 4),))])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [3, 4, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2], [0, 1, 0, 1, 2]]
    assert batch["trained_places"].tolist() == [0, 2, 3, 5]
    assert batch["targets"].tolist() == [6, 8, 9, 4]


def test_a_batch_without_trained_tokens() -> None:
    """A pack that trains nothing still makes a batch."""
    assert collate([Pack((Row((1, 2), (False, False)),))])["targets"].tolist() == []
