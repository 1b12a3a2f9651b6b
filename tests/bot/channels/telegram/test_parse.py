"""What is read of an update: conversations, messages, presses of buttons; and what is left alone."""

import hashlib
import json
from typing import Any

import pytest

from bot.channels.base import UnparsableEvent
from bot.channels.telegram.parse import ALLOWED_UPDATES, ParseRules, chat_key, inbox_item, parse_update, split_batch, split_chat_key
from dialogue.messages import ButtonPress, ConversationKey, FileRef, IncomingMessage, Sender
from storage.records import InboxKind
from tests.bot.channels.telegram.updates import (
    ANNA,
    BOT,
    FORUM,
    GROUP,
    OURSELVES,
    PHOTO,
    PRIVATE,
    TEXT_FILE,
    message,
    parse,
    press,
    read,
    said,
    stored,
    update,
)


def test_a_private_message_is_read_whole() -> None:
    """Text, sender, conversation and reference of a private message arrive in the words of the dialogue."""
    assert read(message(text="How late is it?")) == IncomingMessage(
        ConversationKey("telegram", "kefu_bot", "5321000111"),
        Sender("5321000111", "Anna Bürger", "de"),
        "How late is it?",
        is_private=True,
        message_ref="1365",
    )


def test_what_is_stored_of_an_update() -> None:
    """The raw bytes are stored with event id, chat, kind and sender, and whether the chat is private."""
    raw = update("message", said("hello", author=ANNA))
    item = inbox_item(raw)
    assert (item.event_id, item.chat, item.raw, item.kind) == ("848000123", "-1001987654321", raw, InboxKind.MESSAGE)
    assert (item.is_private, item.sender, item.moved_from, item.moved_to) == (False, "5321000111", "", "")


@pytest.mark.parametrize(
    ("body", "chat"),
    [
        (message(text="x"), "5321000111"),
        (message(text="x", message_thread_id=77, is_topic_message=True), "5321000111/77"),
        (message(text="x", message_thread_id=77), "5321000111/77"),
        (message(FORUM, text="x", message_thread_id=45, is_topic_message=True), "-1001987650000/45"),
        (message(FORUM, text="x"), "-1001987650000"),
        (message(GROUP, text="x", message_thread_id=45), "-1001987654321"),
        (message(GROUP, text="x", message_thread_id=True, is_topic_message=True), "-1001987654321"),
        (message(PRIVATE | {"id": 2**52 - 1}, text="x"), str(2**52 - 1)),
        (message(PRIVATE | {"id": 2**52}, text="x"), "unreadable"),
        (message(PRIVATE | {"id": True}, text="x"), "unreadable"),
    ],
)
def test_topics_are_conversations(body: dict[str, Any], chat: str) -> None:
    """A topic is a conversation of its own, in forums and private chats; a reply thread of a group is none."""
    assert inbox_item(update("message", body)).chat == chat


@pytest.mark.parametrize(("chat_id", "thread_id"), [(123, None), (123, 45), (-1001987654321, None), (-1001987654321, 7)])
def test_chat_keys_lead_back(chat_id: int, thread_id: int | None) -> None:
    """A chat key tells chat and thread to whom sends there."""
    assert split_chat_key(chat_key(chat_id, thread_id)) == (chat_id, thread_id)


def test_a_chat_that_cannot_be_read_is_no_place_to_send_to() -> None:
    """The key of an unreadable chat is no chat id."""
    with pytest.raises(ValueError, match="unreadable"):
        split_chat_key("unreadable")


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("message", message(text="/stop"), InboxKind.STOP),
        ("message", said("/stop@kefu_bot"), InboxKind.STOP),
        ("message", said("/STOP@Kefu_Bot "), InboxKind.STOP),
        ("message", said("/stop@other_bot"), InboxKind.MESSAGE),
        ("message", said("/stop", author=OURSELVES), InboxKind.MESSAGE),
        ("message", message(text="/stop it"), InboxKind.MESSAGE),
        ("callback_query", press(data="stop"), InboxKind.STOP),
        ("callback_query", press(data="up:1"), InboxKind.MESSAGE),
        ("stopped_message_generation", {"chat": PRIVATE, "draft_id": 9}, InboxKind.STOP),
        ("my_chat_member", {"chat": PRIVATE, "from": ANNA, "date": 1793000000}, InboxKind.MESSAGE),
    ],
)
def test_a_stop_is_known_on_arrival(kind: str, body: dict[str, Any], expected: InboxKind) -> None:
    """The command, the button and Telegram's own stop reach a running answer before anything is parsed."""
    assert inbox_item(update(kind, body), BOT).kind is expected


def test_telegrams_own_stop_is_not_answered() -> None:
    """The native stop belongs to the topic whose answer it stops, has no sender, and is no message."""
    body = {"chat": PRIVATE, "message_thread_id": 77, "draft_id": 9}
    item = inbox_item(update("stopped_message_generation", body))
    assert (item.chat, item.sender, item.kind) == ("5321000111/77", "", InboxKind.STOP)
    assert parse(body, kind="stopped_message_generation") is None


def test_a_press_is_read() -> None:
    """A press carries its data, who pressed, and the message under which the button stands."""
    assert parse(press(), kind="callback_query") == ButtonPress(
        ConversationKey("telegram", "kefu_bot", "5321000111"),
        Sender("5321000111", "Anna Bürger", "de"),
        "up:1",
        is_private=True,
        message_ref="1365",
        press_ref="4382bfdwdsb323b2d9",
    )
    assert inbox_item(update("callback_query", press())).sender == "5321000111"


def test_a_press_under_an_old_message_is_read() -> None:
    """A message that Telegram no longer shows us still says where it stands."""
    found = parse(press(message={"chat": PRIVATE, "message_id": 3, "date": 0}), kind="callback_query")
    assert isinstance(found, ButtonPress)
    assert (found.message_ref, found.key.chat) == ("3", "5321000111")


OLD_IN_FORUM = {"chat": FORUM, "message_id": 3, "date": 0}  # an InaccessibleMessage: it does not tell its topic


@pytest.mark.parametrize(
    ("data", "read_as"),
    [("rate:1:T", "rate:1:T"), ("why:tone:T", "why:tone:T"), ("forget:here:5321000111", ""), ("stop", ""), ("up:1", "")],
)
def test_a_press_without_its_topic_acts_by_what_it_names(data: str, read_as: str) -> None:
    """An opinion names its answer; anything else would act on the main conversation, so it is answered and does nothing."""
    found = parse(press(message=OLD_IN_FORUM, data=data), kind="callback_query")
    assert isinstance(found, ButtonPress)
    assert (found.data, found.key.chat) == (read_as, str(FORUM["id"]))
    plain = parse(press(message=OLD_IN_FORUM | {"chat": GROUP}, data=data), kind="callback_query")
    assert isinstance(plain, ButtonPress)
    assert plain.data == data


@pytest.mark.parametrize("chat", [PRIVATE, GROUP, FORUM])
def test_stop_under_a_message_that_is_gone_stops_nothing(chat: dict[str, Any]) -> None:
    """No answer grows in it; the one that is being made in its chat is another one."""
    body = press(message={"chat": chat, "message_id": 3, "date": 0}, data="stop")
    assert inbox_item(update("callback_query", body)).kind is InboxKind.MESSAGE


@pytest.mark.parametrize("missing", ["data", "message"])
def test_presses_that_are_not_ours(missing: str) -> None:
    """A press without data (a game) or without a message (inline) is left alone."""
    body = {name: value for name, value in press().items() if name != missing}
    assert parse(body, kind="callback_query") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "hi", "author": OURSELVES | {"id": 42}},
        {"text": "hi", "author": {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}},
        {"text": "hi", "author": {"id": 136817688, "first_name": "Channel"}, "sender_chat": {"id": -1005, "type": "channel"}},
        {"text": "hi", "author": {"id": 777000, "first_name": "Telegram"}, "is_automatic_forward": True},
        {"text": "hi", "author": None},
        {"text": "hi", "sender_business_bot": OURSELVES},
    ],
)
def test_only_people_are_answered(fields: dict[str, Any]) -> None:
    """Bots, anonymous administrators, channels and automatic forwards get no answer, and so start no endless talk."""
    assert parse(message(**fields)) is None


def test_what_a_person_sends_through_a_bot_is_theirs() -> None:
    """A message made with an inline bot is answered: a person has sent it."""
    assert read(message(text="a cat", via_bot={"id": 43, "is_bot": True, "first_name": "Cats"})).text == "a cat"


@pytest.mark.parametrize(
    "fields",
    [
        {"new_chat_members": [ANNA]},
        {"pinned_message": message(text="old")},
        {"forum_topic_created": {"name": "Tea", "icon_color": 7322096}},
        {"migrate_to_chat_id": -1001987654321},
        {"write_access_allowed": {}},
        {"delete_chat_photo": True},
    ],
)
def test_the_platform_is_not_answered(fields: dict[str, Any]) -> None:
    """Service messages are no messages."""
    assert parse(message(**fields)) is None


@pytest.mark.parametrize(
    "kind", ["channel_post", "business_message", "edited_channel_post", "message_reaction", "poll", "tomorrows_update"]
)
def test_other_updates_are_left_alone(kind: str) -> None:
    """An update of a kind that is not asked for, or newer than this program, is nothing to answer."""
    assert kind not in ALLOWED_UPDATES
    assert parse(message(text="hi"), kind=kind) is None
    assert parse({"id": "1"}, kind=kind) is None


def test_fields_of_a_newer_bot_api_pass() -> None:
    """What nobody knows yet does not hide what is known."""
    raw = json.loads(update("message", message(text="hi", tomorrow={"a": [1]})))
    body = raw["message"] | {"from": ANNA | {"mood": "good"}}
    assert read(body).text == "hi"
    assert inbox_item(json.dumps({"tomorrow": 1} | raw).encode()).chat == "5321000111"


@pytest.mark.parametrize(
    "fields",
    [
        {"photo": PHOTO},
        {"voice": {"file_id": "AwAC", "duration": 3}},
        {"sticker": {"file_id": "CAAC", "emoji": "👍"}},
        {"location": {"latitude": 52.5, "longitude": 13.4}},
        {"poll": {"id": "5", "question": "Tea?"}},
        {"dice": {"emoji": "🎲", "value": 3}},
        {"document": {"file_id": "BQAC", "file_name": "a.pdf", "mime_type": "application/pdf"}},
        {"hologram": {"file_id": "ZZZ"}},
        {"photo": PHOTO, "caption": "\u200b "},
    ],
)
def test_media_without_words_are_unreadable(fields: dict[str, Any]) -> None:
    """Whatever a person sends that has no words is said to be unreadable, also kinds that come to exist later."""
    found = read(message(**fields))
    assert (found.text, found.is_unreadable, found.file) == ("", True, None)


def test_a_caption_is_read() -> None:
    """A picture with a caption is its caption."""
    found = read(message(photo=PHOTO, caption="What is this?"))
    assert (found.text, found.is_unreadable) == ("What is this?", False)


@pytest.mark.parametrize(
    "document",
    [
        TEXT_FILE,
        TEXT_FILE | {"mime_type": "application/octet-stream"},
        TEXT_FILE | {"file_name": "NOTES.TXT", "mime_type": ""},
        TEXT_FILE | {"file_name": "notes", "mime_type": "text/plain"},
    ],
)
def test_text_files_are_readable(document: dict[str, Any]) -> None:
    """A .txt or .md document goes with the message, by its name or type; the caption is the text."""
    found = read(message(document=document, caption="/summarize"))
    assert found.file == FileRef("BQACAgIAAxkBAAIB", document["file_name"], 2048)
    assert (found.text, found.is_unreadable) == ("/summarize", False)
    assert read(message(document=document)).file == found.file
    assert not read(message(document=document)).is_unreadable


@pytest.mark.parametrize("ref", ["", "\ud800", "a b", "x\n", "你好", "x" * 257, 5, None])
def test_ids_that_telegram_never_hands_out(ref: object) -> None:
    """A file id that could not be sent back names no file, and a press with such an id is quarantined."""
    assert read(message(document=TEXT_FILE | {"file_id": ref})).is_unreadable
    with pytest.raises(UnparsableEvent):
        parse(press(id=ref), kind="callback_query")


def test_the_file_of_a_replied_message() -> None:
    """A reply to a text file carries that file."""
    found = read(message(text="/summarize", reply_to_message=message(document=TEXT_FILE, caption="my notes")))
    assert found.file == FileRef("BQACAgIAAxkBAAIB", "notes.md", 2048)
    assert found.quoted_text == "my notes"


@pytest.mark.parametrize(
    ("fields", "quoted"),
    [
        ({"reply_to_message": message(text="one two")}, "one two"),
        ({"reply_to_message": message(photo=PHOTO, caption="a cat")}, "a cat"),
        ({"reply_to_message": message(text="one two"), "quote": {"text": "two", "position": 4, "is_manual": True}}, "two"),
        ({"external_reply": {"origin": {"type": "user"}}, "quote": {"text": "from elsewhere", "position": 0}}, "from elsewhere"),
        ({"reply_to_message": message(photo=PHOTO)}, ""),
        ({"reply_to_message": 5, "quote": []}, ""),
        ({}, ""),
    ],
)
def test_quotes(fields: dict[str, Any], quoted: str) -> None:
    """The marked part is quoted, else the message replied to."""
    assert read(message(text="what is that?", **fields)).quoted_text == quoted


@pytest.mark.parametrize("field", [{"forward_origin": {"type": "hidden_user", "sender_user_name": "X"}}, {"forward_date": 1792000000}])
def test_forwards(field: dict[str, Any]) -> None:
    """Somebody else's words are marked as such."""
    assert read(message(text="hi", **field)).is_forward
    assert not read(message(text="hi")).is_forward


def test_edits() -> None:
    """An edited message is a new version; an edited medium, such as a live location that moves, is nothing to answer."""
    found = read(message(text="How late is it now?", edit_date=1793000100), kind="edited_message")
    assert (found.is_edit, found.message_ref) == (True, "1365")
    moved = message(location={"latitude": 52.5, "longitude": 13.4, "live_period": 900}, edit_date=1793000100)
    assert parse(moved, kind="edited_message") is None


def test_text_is_cleaned() -> None:
    """Invisible characters go, long texts are cut, a text of nothing is nothing, a name stands on one line."""
    assert read(message(text="a\u202eb\x00c\r\n")).text == "abc"
    assert read(message(text="x" * 50), ParseRules(max_chars=10)).text == "x" * 10
    assert read(message(text="x", reply_to_message=message(text="y" * 50)), ParseRules(max_chars=10)).quoted_text == "y" * 10
    assert parse(message(text=" \u200b ")) is None
    anna = ANNA | {"first_name": "An\nna\u202e", "last_name": "B" * 200, "language_code": "de\n"}
    sender = read(message(text="x", author=anna)).sender
    assert (sender.display_name, sender.language) == ("An na " + "B" * 94, None)


def test_a_message_for_one_pair_of_eyes_has_no_reference() -> None:
    """A message with the id 0 cannot be replied to."""
    assert read(message(text="hi", message_id=0)).message_ref == ""


def test_a_chat_that_moves() -> None:
    """Both service messages of a migration name the old and the new chat; neither is answered."""
    leaving = message({"id": -4321, "type": "group"}, migrate_to_chat_id=-1001987654321)
    arriving = message(GROUP, migrate_from_chat_id=-4321)
    left, arrived = inbox_item(update("message", leaving)), inbox_item(update("message", arriving))
    assert (left.chat, left.moved_from, left.moved_to) == ("-4321", "-4321", "-1001987654321")
    assert (arrived.chat, arrived.moved_from, arrived.moved_to) == ("-1001987654321", "-4321", "-1001987654321")
    assert parse(leaving) is None
    assert parse(arriving) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"update_id": 5}',
        b'{"message": {"text": "hi"}}',
        b'{"update_id": 5, "message": "hi"}',
        b'{"update_id": 5, "message": {"chat": {"id": "5"}}}',
        update("message", message(text="hi", message_id="1")),
        update("message", message(text="hi", author={"id": None})),
        update("message", message(text="hi", author=5)),
        update("callback_query", press(id="")),
        update("callback_query", press(message={"chat": {}})),
        update("message", message(text="a long story"))[:-10],
        b'{"update_id": 5, "message": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"update_id": 5, "message": {"message_id": ' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_update_is_quarantined(raw: bytes) -> None:
    """Bytes that are no update are stored all the same, and parsing them says so."""
    assert inbox_item(raw).raw == raw
    with pytest.raises(UnparsableEvent):
        parse_update(stored(raw), BOT, ParseRules())


def test_an_update_without_an_id_is_known_by_its_bytes() -> None:
    """The same bytes have the same event id, and none reads as a number."""
    for update_id in (None, "5", True, -1, 2**52, 1.5):
        raw = update("message", message(text="hi"), update_id)
        assert inbox_item(raw).event_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert inbox_item(b"\x00") == inbox_item(b"\x00")
    assert inbox_item(b"\x00") != inbox_item(b"\x01")


def test_a_cut_update_keeps_its_id() -> None:
    """An update that is too deep or was cut is stored under the id that the platform gave it, so that polling goes on behind it."""
    deep = b'{"update_id":71,"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert inbox_item(deep).event_id == "71"
    assert inbox_item(update("message", message(text="hi"))[:60]).event_id == "848000123"
    assert (inbox_item(deep).chat, inbox_item(deep).is_private) == ("unreadable", False)


def test_a_batch_is_split() -> None:
    """Each update of an answer comes with its id and exactly the bytes that came."""
    first, second = update("message", message(text='a "quoted", [odd] {text} \\" 你好')), update("callback_query", press(), 848000124)
    body = b'{"ok":true,"description":"a \\"result\\":[1]","result" : [ ' + first + b" ,\n" + second + b" ]}"
    assert split_batch(body) == ((848000123, first), (848000124, second))
    assert split_batch(b'{"ok":true,"result":[]}') == ()


@pytest.mark.parametrize(
    ("odd", "update_id"),
    [
        (b"null", None),
        (b'"text"', None),
        (b"[1, 2]", None),
        (b"{}", None),
        (b'{"update_id":9,"message":{"date":' + b"9" * 5000 + b"}}", 9),
        (b'{"update_id":9,"message":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 9),
        (b'{"update_id":9,"message":{"text":"\xff\xfe"}}', 9),
        (b'{"update_id":9,"message":nonsense}', 9),
        (b'{"update_id":"9","message":{}}', None),
    ],
)
def test_one_odd_update_is_odd_alone(odd: bytes, update_id: int | None) -> None:
    """An update that nobody can read stands between its neighbours and does not hide them."""
    first, last = update("message", message(text="first"), 8), update("message", message(text="last"), 10)
    body = b'{"ok":true,"result":[' + b",".join((first, odd, last)) + b"]}"
    assert split_batch(body) == ((8, first), (update_id, odd), (10, last))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b'{"ok":true}',
        b'{"ok":true,"result":true}',
        b'{"ok":false,"error_code":409,"description":"Conflict","result":[]}',
        b'{"ok":true,"result":[{"update_id":1}',
        b'{"ok":true,"result":[{"update_id":1}]',
        b'{"ok":true,"result":["' + b'\\"' * 50_000,
        b'{"ok":true,"other":{"result":[1]}}',
    ],
)
def test_no_answer_is_no_batch(body: bytes) -> None:
    """A body that is cut, refuses, or is something else is refused as a whole: the platform will be asked again."""
    with pytest.raises(UnparsableEvent):
        split_batch(body)
