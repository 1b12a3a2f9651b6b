"""Text from tokens: what is streamed is what is decoded at once, and no piece ends inside a character."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dialogue.engine.local.text_stream import TextStream


def decode_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def decode_words(ids: Sequence[int]) -> str:
    """Decode as sentencepiece does: the blank before the first word is lost."""
    return "".join(f" {token}" if token % 2 else str(token) for token in ids).lstrip(" ")


@given(st.text(max_size=40))
def test_characters_arrive_whole(text: str) -> None:
    """Tokens that are single bytes give the text again, and never a broken character."""
    stream = TextStream(decode_bytes)
    pieces = [stream.push(byte) for byte in text.encode("utf-8", "replace")]
    assert all("\ufffd" not in piece or "\ufffd" in text for piece in pieces)
    assert "".join(pieces) + stream.flush() == text.encode("utf-8", "replace").decode()


@given(st.lists(st.integers(0, 99), max_size=30))
def test_blanks_stay_where_they_are(ids: list[int]) -> None:
    """A tokenizer that treats the first token of a text in its own way gives the same text token by token."""
    stream = TextStream(decode_words)
    assert "".join(stream.push(token) for token in ids) + stream.flush() == decode_words(ids)
