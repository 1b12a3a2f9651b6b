"""Arithmetic of prompts, for all sizes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.budget import Limits, cut_history, shorten, take_while_fits
from dialogue.errors import RequestTooLong

SIZES = st.lists(st.integers(1, 400), max_size=60)
LIMITS = st.integers(1, 2000)


def by_bytes(text: str) -> int:
    return len(text.encode())


def by_words(text: str) -> int:
    return len(text.split())


def note(count: int) -> str:
    return f"[{count}]"


@given(SIZES, LIMITS, st.integers(0, 4000))
def test_what_stays_fits(sizes: list[int], limit: int, room: int) -> None:
    """After a cut the rest is within room and limit, but for a newest turn that is bigger than the limit alone."""
    kept = sizes[cut_history(sizes, limit, room) :]
    assert sum(kept) <= room
    assert sum(kept) <= limit or kept == sizes[-1:]


@given(SIZES, LIMITS, st.integers(0, 4000))
def test_nothing_is_cut_without_need(sizes: list[int], limit: int, room: int) -> None:
    """A history within limit and room stays whole; a cut one leaves at most half of the limit, or one turn."""
    dropped = cut_history(sizes, limit, room)
    smaller = min(limit, room)
    if sum(sizes) <= smaller:
        assert dropped == 0
    else:
        kept = sizes[dropped:]
        assert sum(kept) <= smaller // 2 or kept == sizes[-1:]


@given(SIZES, LIMITS, st.integers(0, 4000))
def test_as_much_as_possible_stays(sizes: list[int], limit: int, room: int) -> None:
    """One turn more would not have fitted into the half."""
    dropped = cut_history(sizes, limit, room)
    if dropped and len(sizes) - dropped > 1:
        assert sum(sizes[dropped - 1 :]) > min(limit, room) // 2


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(400, 2000))
def test_cuts_are_seldom(sizes: list[int], limit: int) -> None:
    """A growing history is cut only after it grew by at least what a cut freed: never at two turns in a row."""
    window: list[int] = []
    cut_at: list[int] = []
    for turn, tokens in enumerate(sizes):
        dropped = cut_history(window, limit, 10**6)
        if dropped:
            cut_at.append(turn)
        window = [*window[dropped:], tokens]
    assert all(later - earlier >= limit // 2 // 100 for earlier, later in pairwise(cut_at))


@given(st.text(max_size=400), st.integers(12, 200))
def test_a_shortened_text_fits(text: str, limit: int) -> None:
    """The result is within the limit and says how many characters are missing; a text that fits is as it was."""
    shortened = shorten(text, limit, by_bytes, note)
    assert by_bytes(shortened.text) <= limit
    if by_bytes(text) <= limit:
        assert shortened == (text, 0)
    else:
        head, _, tail = shortened.text.partition(note(shortened.left_out))
        assert len(head) + len(tail) + shortened.left_out == len(text)
        assert text.startswith(head)
        assert text.endswith(tail)


@given(st.text(max_size=300), st.integers(12, 100))
def test_shortening_keeps_both_ends(text: str, limit: int) -> None:
    """Beginning and end of a long text stay in equal parts, but for one character."""
    shortened = shorten(text, limit, by_bytes, note)
    if shortened.left_out:
        head, _, tail = shortened.text.partition(note(shortened.left_out))
        assert 0 <= len(head) - len(tail) <= 1


def test_a_flood_is_not_measured() -> None:
    """A text far beyond any limit is never handed to the tokenizer as a whole."""
    measured: list[int] = []

    def measure(text: str) -> int:
        measured.append(len(text))
        return by_bytes(text)

    shorten("x" * 10_000_000, 100, measure, note)
    assert max(measured) < 2000


def test_no_room_at_all() -> None:
    """Where not even the note fits, the request is too long."""
    with pytest.raises(RequestTooLong):
        shorten("a long text", 1, by_bytes, note)
    with pytest.raises(RequestTooLong):
        shorten("a long text", -5, by_bytes, note)


@given(st.lists(st.text(max_size=20), max_size=20), st.integers(0, 100))
def test_texts_are_taken_in_order(texts: list[str], limit: int) -> None:
    """The first texts that fit together are taken, and one more would not fit."""
    count = take_while_fits(texts, limit, by_words)
    assert sum(map(by_words, texts[:count])) <= limit
    assert count == len(texts) or sum(map(by_words, texts[: count + 1])) > limit


@given(st.integers(2, 100_000), st.integers(1, 10_000), st.integers(1, 10_000), st.none() | st.integers(1, 100_000))
def test_a_reply_has_at_most_half_of_the_context(context: int, reply: int, history: int, wish: int | None) -> None:
    """However long a reply is wished for, half of the context is left for the prompt."""
    limits = Limits(context, reply, history)
    assert 1 <= limits.reply_for(wish) <= max(1, context // 2)
    assert limits.message + limits.reply_for(None) <= context
