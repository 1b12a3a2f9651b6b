"""Which messages one turn answers."""

import pytest

from bot.turn_choice import Parsed, choose_turn
from dialogue.messages import ConversationKey, IncomingMessage, Sender
from storage.records import InboxKind, InboxRecord, InboxState


def _parsed(number: int, text: str | None, sender: str = "ann", kind: InboxKind = InboxKind.MESSAGE) -> Parsed:
    item = InboxRecord(str(number), "fake", "bot", f"e{number}", "c", b"", kind, InboxState.CLAIMED, 1, 0, None, "")
    if text is None:
        return Parsed(item, None)
    return Parsed(item, IncomingMessage(ConversationKey("fake", "bot", "chat"), Sender(sender), text, is_private=True))


@pytest.mark.parametrize(
    ("texts", "join", "expected"),
    [
        (["a", "b", "c"], True, 3),
        (["a", "b", "c"], False, 1),
        (["a", "/help", "b"], True, 1),
        (["/help", "a"], True, 1),
        ([None, "a", None, "b", None, "/new"], True, 4),
        ([None, None], True, 2),
        ([None, "a", "b"], False, 2),
    ],
)
def test_a_turn_is_a_burst_or_a_command(texts: list[str | None], join: bool, expected: int) -> None:
    """Plain texts in a row are one turn where bursts are joined, a command stands alone, and what needs no answer goes with the rest."""
    chosen = choose_turn([_parsed(number, text) for number, text in enumerate(texts)], join=join)
    assert chosen.inbox_ids == tuple(str(number) for number in range(expected))
    assert [message.text for message in chosen.messages] == [text for text in texts[:expected] if text is not None]


def test_two_people_are_two_turns() -> None:
    """In a group each person gets an own answer."""
    chosen = choose_turn([_parsed(1, "a", "ann"), _parsed(2, "b", "bob")], join=True)
    assert chosen.inbox_ids == ("1",)


def test_a_stop_right_behind_ends_the_turn_before_it_begins() -> None:
    """Who writes and at once stops wants no answer; a later stop belongs to another turn."""
    stop = _parsed(3, "/stop", kind=InboxKind.STOP)
    assert choose_turn([_parsed(1, "a"), _parsed(2, "b"), stop], join=True).is_stopped
    assert not choose_turn([_parsed(1, "/help"), _parsed(2, "b"), stop], join=True).is_stopped
    assert choose_turn([stop, _parsed(4, "a")], join=True).is_stop
