"""Stop strings, cut anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.stops import StopFilter

pieces = st.lists(st.text("ab<|>", max_size=6), max_size=12)
stops = st.lists(st.text("ab<|>", min_size=1, max_size=4), max_size=3)


def shown(texts: list[str], ends: list[str]) -> str:
    stop = StopFilter(ends)
    return "".join([stop.push(text) for text in texts] + [stop.flush()])


@given(pieces, stops)
def test_equals_a_cut_of_the_whole(texts: list[str], ends: list[str]) -> None:
    """What is shown is the text before the stop string that is complete first, however the text was cut."""
    whole = "".join(texts)
    complete = [(whole.find(end) + len(end), whole.find(end)) for end in ends if end in whole]
    result = shown(texts, ends)
    if not complete:
        assert result == whole
        return
    assert whole.startswith(result)
    assert not any(end in result for end in ends)
    assert len(result) <= min(complete)[1]


@given(st.text("ab<|>", max_size=30), stops)
def test_cutting_hides_nothing(text: str, ends: list[str]) -> None:
    """One character at a time shows what the whole at once shows; at most more of what stands before the first complete stop."""
    assert shown(list(text), ends).startswith(shown([text], ends))


def test_shows_early_what_cannot_be_a_stop() -> None:
    """Only the possible beginning of a stop string is held back."""
    stop = StopFilter(["<|end|>"])
    assert [stop.push(piece) for piece in ("hello <", "|en", "ough <|", "end|> more")] == ["hello ", "", "<|enough ", ""]
    assert stop.stopped
