"""Splits: whole groups, by a hash that only seed and group decide."""

from hypothesis import assume, given
from hypothesis import strategies as st

from finetune.config import SplitSection
from finetune.split import share_of, split_groups

GROUPS = st.sets(st.text(min_size=1, max_size=8), max_size=60)
SHARES = st.builds(SplitSection, valid=st.floats(0, 0.3), test=st.floats(0, 0.3))


@given(GROUPS, SHARES, st.integers(0, 5))
def test_equal_arguments_give_equal_splits(groups: set[str], shares: SplitSection, seed: int) -> None:
    """Order does not matter, and every group has one of three splits."""
    forward, backward = split_groups(sorted(groups), shares, seed), split_groups(sorted(groups, reverse=True), shares, seed)
    assert forward == backward
    assert forward.keys() == groups
    assert set(forward.values()) <= {"train", "valid", "test"}


@given(GROUPS, SHARES, st.integers(0, 5))
def test_no_split_stays_empty(groups: set[str], shares: SplitSection, seed: int) -> None:
    """With three groups or more, each split that was asked for has one; there is always something to train on."""
    assume(groups)
    found = set(split_groups(groups, shares, seed).values())
    assert "train" in found
    if len(groups) >= 3:
        assert (shares.test == 0) or ("test" in found)
        assert (shares.valid == 0) or ("valid" in found)


@given(st.integers(0, 100))
def test_growing_keeps_the_test(seed: int) -> None:
    """A dataset that grows keeps every group where it was."""
    shares = SplitSection(valid=0.1, test=0.2)
    few = split_groups((f"g{number}" for number in range(200)), shares, seed)
    many = split_groups((f"g{number}" for number in range(400)), shares, seed)
    assert {group: many[group] for group in few} == few


def test_shares_are_kept() -> None:
    """Of many groups, about the wanted share is held out; another seed holds out others."""
    shares = SplitSection(valid=0.05, test=0.1)
    places = split_groups((f"g{number}" for number in range(4000)), shares, 17)
    held_out = [list(places.values()).count(split) / 4000 for split in ("valid", "test")]
    assert 0.04 < held_out[0] < 0.06
    assert 0.085 < held_out[1] < 0.115
    assert places != split_groups(places, shares, 18)
    assert 0 <= share_of(17, "g1") < 1
