"""The buttons under the assistant's messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.rating import BAD, GOOD, REASONS, Opinion, Wish, forget_buttons, rated_buttons, rating_buttons, read_press
from dialogue.messages import ButtonRows
from storage.ids import new_id

PERSON = "9" * 20  # no platform's id is longer


def _labels(rows: ButtonRows) -> list[str]:
    return [button.label for row in rows for button in row]


def test_both_faces_stand_under_a_fresh_answer() -> None:
    """Nothing is marked before anybody said anything."""
    assert _labels(rating_buttons("t")) == ["👍", "👎"]


@pytest.mark.parametrize("reason", ["", *REASONS])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_bad_opinion_may_say_why(reason: str, language: str) -> None:
    """The reasons are offered in the reader's language, and exactly the chosen ones are marked."""
    labels = _labels(rated_buttons(Opinion("t", BAD, reason), language))
    assert len(labels) == len(set(labels)) == 2 + len(REASONS)
    assert [label.startswith("✓ ") for label in labels] == [False, True, *(name == reason for name in REASONS)]


def test_a_good_opinion_needs_no_reason() -> None:
    """The reasons go away again."""
    assert _labels(rated_buttons(Opinion("t", GOOD), "en")) == ["✓ 👍", "👎"]


@pytest.mark.parametrize("is_private", [True, False])
def test_every_button_fits_and_means_what_it_says(is_private: bool) -> None:
    """The data of each is at most 64 bytes, as platforms have it, and is understood when it comes back."""
    turn_id = new_id()
    rating = [*rating_buttons(turn_id), *rated_buttons(Opinion(turn_id, BAD), "en")]
    asking = forget_buttons("en", PERSON, is_private=is_private)
    meanings = [read_press(button.data) for row in (*rating, *asking) for button in row]
    assert all(len(button.data.encode()) <= 64 for row in (*rating, *asking) for button in row)
    faces = [Opinion(turn_id, GOOD), Opinion(turn_id, BAD)]
    scopes = ["all", "memory", "cancel"] if is_private else ["here", "cancel"]
    assert meanings == [*faces, *faces, *(Opinion(turn_id, BAD, reason) for reason in REASONS), *(Wish(scope, PERSON) for scope in scopes)]


@pytest.mark.parametrize("data", ["", "stop", "rate:2:t", "rate:1", "why:because:t", "forget:all", "forget:everybody:1", "forget:all:1:2"])
def test_data_of_no_button_means_nothing(data: str) -> None:
    """People can send any data; what no button of ours has is not acted upon."""
    assert read_press(data) is None


@given(
    st.text(max_size=64) | st.builds(":".join, st.lists(st.sampled_from(["rate", "why", "forget", "1", "-1", "wrong", "all"]), max_size=4))
)
def test_any_data_is_read(data: str) -> None:
    """Reading never fails, and an opinion is always one that can be stored."""
    meaning = read_press(data)
    if isinstance(meaning, Opinion):
        assert meaning.rating in {GOOD, BAD}
        assert meaning.reason in {"", *REASONS}
