"""What goes out with the text of a reply, as it is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.extras import ReplyExtras, decode_extras
from dialogue.messages import Button

BUTTONS = st.lists(st.lists(st.builds(Button, st.text(), st.text()), max_size=3).map(tuple), max_size=3).map(tuple)
EXTRAS = st.builds(ReplyExtras, st.booleans(), BUTTONS, st.text())


@given(EXTRAS)
def test_extras_come_back_as_they_were(extras: ReplyExtras) -> None:
    """Whatever labels, data and names hold, what is read equals what was written."""
    assert decode_extras(extras.encode()) == extras


def test_nothing_is_stored_of_nothing() -> None:
    """Most replies are text alone: their row holds an empty string."""
    assert ReplyExtras().encode() == ""
    assert decode_extras("") == ReplyExtras()


@pytest.mark.parametrize("stored", ["{", "[]", "1", "{}", '{"buttons": 1}', '{"buttons": [["x"]], "rateable": true, "document": ""}'])
def test_what_was_not_written_here_is_refused(stored: str) -> None:
    """Anything else raises one of the errors that are named, and gives no buttons that nobody meant."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_extras(stored)
