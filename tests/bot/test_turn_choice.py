"""Which messages one turn answers."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.turn_choice import Parsed, apply_edits, choose_turn
from dialogue.messages import ButtonPress, ConversationKey, FileRef, IncomingMessage, Sender
from storage.records import InboxKind, InboxRecord, InboxState

KEY = ConversationKey("fake", "bot", "chat")


def _item(number: int, kind: InboxKind = InboxKind.MESSAGE) -> InboxRecord:
    return InboxRecord(str(number), "fake", "bot", f"e{number}", "c", b"", kind, InboxState.CLAIMED, 1, 0, None, "")


def _parsed(number: int, text: str | None, sender: str = "ann", kind: InboxKind = InboxKind.MESSAGE, **more: Any) -> Parsed:
    """Return an event with a message, None = with nothing to answer. Its `message_ref` is its number, unless it says another."""
    if text is None:
        return Parsed(_item(number, kind))
    given: dict[str, Any] = {"message_ref": str(number), "is_private": True, **more}
    return Parsed(_item(number, kind), IncomingMessage(KEY, Sender(sender), text, **given))


def _pressed(number: int, data: str = "rate:1:t", kind: InboxKind = InboxKind.MESSAGE, sender: str = "ann") -> Parsed:
    return Parsed(_item(number, kind), press=ButtonPress(KEY, Sender(sender), data, is_private=True, message_ref="7", press_ref="p"))


def _texts(parsed: Sequence[Parsed]) -> list[str]:
    return [message.text for message in choose_turn(parsed, join=True).messages]


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


def test_a_stop_counts_although_something_without_an_answer_came_between() -> None:
    """An edit or a sticker between a message and its stop does not save the message from it; a press, or another message, does."""
    stop = _parsed(9, "/stop", kind=InboxKind.STOP)
    assert choose_turn([_parsed(1, "a"), _parsed(2, None), stop], join=True).is_stopped
    assert choose_turn([_parsed(1, "a"), _parsed(2, "b", message_ref="1", is_edit=True), stop], join=True).is_stopped
    assert not choose_turn([_parsed(1, "a"), _pressed(2), stop], join=True).is_stopped
    assert not choose_turn([_parsed(1, "a"), _parsed(2, "b", "bob"), stop], join=True).is_stopped


def test_in_a_group_only_the_own_stop_ends_a_turn() -> None:
    """A stop of somebody else, written or pressed, neither counts nor hides the own one behind it."""
    question = _parsed(1, "a", is_private=False)
    others = [_parsed(2, "/stop", "bob", InboxKind.STOP, is_private=False), _pressed(3, "stop", InboxKind.STOP, "bob")]
    own = _parsed(4, "/stop", kind=InboxKind.STOP, is_private=False)
    assert not choose_turn([question, *others], join=True).is_stopped
    assert choose_turn([question, *others, own], join=True).is_stopped
    assert choose_turn([question, _pressed(2, "stop", InboxKind.STOP)], join=True).is_stopped
    assert not choose_turn([question, _parsed(2, None, kind=InboxKind.STOP)], join=True).is_stopped


def test_a_pressed_stop_ends_the_turn_before_it_begins() -> None:
    """The button does what the command does, and is then done by itself."""
    stop = _pressed(2, "stop", InboxKind.STOP)
    assert choose_turn([_parsed(1, "a"), stop], join=True).is_stopped
    chosen = choose_turn([stop, _parsed(3, "b")], join=True)
    assert (chosen.press, chosen.inbox_ids, chosen.is_stop) == (stop.press, ("2",), True)


def test_a_press_is_a_turn_of_its_own() -> None:
    """What was written before it is answered first; then it stands alone, with what needs no answer before it."""
    events = [_parsed(1, "a"), _parsed(2, "b"), _pressed(3), _parsed(4, "c")]
    first = choose_turn(events, join=True)
    assert ([message.text for message in first.messages], first.press, first.inbox_ids) == (["a", "b"], None, ("1", "2"))
    second = choose_turn([_parsed(0, None), *events[2:]], join=True)
    assert (second.messages, second.press, second.inbox_ids) == ((), events[2].press, ("0", "3"))


def test_an_edit_of_a_waiting_message_stands_in_its_place() -> None:
    """The newest version is answered, once, where the message stood."""
    events = [
        _parsed(1, "helo"),
        _parsed(2, "there"),
        *(_parsed(n, text, message_ref="1", is_edit=True) for n, text in ((3, "hallo"), (4, "hello"))),
    ]
    chosen = choose_turn(events, join=True)
    assert [(message.text, message.is_edit) for message in chosen.messages] == [("hello", False), ("there", False)]
    assert choose_turn(events[2:], join=True).messages == ()


def test_an_edit_may_make_a_command() -> None:
    """A message that became a command stands alone like any command."""
    events = [_parsed(1, "hi"), _parsed(2, "help"), _parsed(3, "/help", message_ref="2", is_edit=True)]
    assert _texts(events) == ["hi"]
    assert _texts([events[1], events[2]]) == ["/help"]


@pytest.mark.parametrize("edit", [{"message_ref": "0"}, {"message_ref": "1", "sender": "bob"}])
def test_any_other_edit_is_nothing_to_answer(edit: dict[str, Any]) -> None:
    """A message that was answered already is not answered again, and nobody changes what another one wrote."""
    assert _texts([_parsed(1, "a"), _parsed(2, "changed", is_edit=True, **edit)]) == ["a"]


@pytest.mark.parametrize("command", ["/summarize", "/translate", "/sum@KefuBot", "/write"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_command_and_a_forward_are_one_turn(command: str, is_first: bool) -> None:
    """Which of the two comes first does not matter: the command works on the forward."""
    events = [_parsed(1, command), _parsed(2, "a long story", is_forward=True)]
    chosen = choose_turn(events if is_first else events[::-1], join=True)
    (message,) = chosen.messages
    assert (message.text, message.quoted_text, message.is_forward, len(chosen.items)) == (command, "a long story", False, 2)


def test_a_forwarded_file_goes_with_its_command() -> None:
    """It is fetched for the command, as one that the command answers to would be."""
    file = FileRef("f1", "notes.md")
    (message,) = choose_turn([_parsed(1, "", is_forward=True, file=file), _parsed(2, "/summarize")], join=True).messages
    assert (message.text, message.file) == ("/summarize", file)


def test_a_forward_that_looks_like_a_command_is_only_text() -> None:
    """Beside a command that wants a text, somebody else's command is not carried out."""
    (message,) = choose_turn([_parsed(1, "/translate"), _parsed(2, "/forget", is_forward=True)], join=True).messages
    assert (message.text, message.quoted_text) == ("/translate", "/forget")


@pytest.mark.parametrize(
    "events",
    [
        [_parsed(1, "/new"), _parsed(2, "a story", is_forward=True)],
        [_parsed(1, "/summarize this"), _parsed(2, "a story", is_forward=True)],
        [_parsed(1, "/summarize", quoted_text="another"), _parsed(2, "a story", is_forward=True)],
        [_parsed(1, "/summarize"), _parsed(2, "a story", "bob", is_forward=True)],
        [_parsed(1, "/summarize"), _parsed(2, "a story")],
        [_parsed(1, "/summarize", is_forward=True), _parsed(2, "a story")],
        [_parsed(1, "/summarize"), _pressed(2), _parsed(3, "a story", is_forward=True)],
    ],
)
def test_other_neighbours_stay_apart(events: list[Parsed]) -> None:
    """A command that has its text, or wants none, takes no forward away from its own answer."""
    chosen = choose_turn(events, join=True)
    assert (chosen.inbox_ids, chosen.messages) == (("1",), (events[0].message,))


def test_text_that_only_looks_like_a_command_joins_as_text() -> None:
    """A path before a forward is part of what was said."""
    assert _texts([_parsed(1, "/usr/bin/python"), _parsed(2, "is missing", is_forward=True)]) == ["/usr/bin/python", "is missing"]


EVENTS = st.one_of(
    st.builds(
        dict,
        text=st.sampled_from(["a", "/sum", "/new", "", None]),
        sender=st.sampled_from(["ann", "bob"]),
        kind=st.sampled_from(InboxKind),
        is_forward=st.booleans(),
        is_edit=st.booleans(),
        message_ref=st.sampled_from(["1", "2", "3"]),
    ),
    st.none(),  # a press
)


@given(st.lists(EVENTS, max_size=8), st.booleans())
def test_every_event_has_its_turn(drawn: list[dict[str, Any] | None], join: bool) -> None:
    """Turn after turn takes the oldest events, at least one each time, until none is left; every press and message had its turn."""
    left = [_pressed(number) if given is None else _parsed(number, **given) for number, given in enumerate(drawn)]
    presses, messages, turns = sum(one.press is not None for one in left), sum(one.message is not None for one in apply_edits(left)), 0
    while left:
        chosen = choose_turn(left, join=join)
        assert chosen.inbox_ids == tuple(one.item.id for one in left[: len(chosen.items)])
        assert chosen.items
        assert not (chosen.press and chosen.messages)
        assert len({message.sender.external_id for message in chosen.messages}) <= 1
        turns += 1
        presses -= chosen.press is not None
        left = left[len(chosen.items) :]
    assert presses == 0
    assert turns <= len(drawn)
    assert messages >= 0
