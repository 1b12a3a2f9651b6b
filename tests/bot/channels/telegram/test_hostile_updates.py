"""Updates made to break the reader: each is stored, and read, ignored or quarantined. Nothing else happens."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.channels.base import UnparsableEvent
from bot.channels.telegram.parse import GroupMode, ParseRules, inbox_item, parse_update, split_batch, split_chat_key
from dialogue.messages import ButtonPress, IncomingMessage
from tests.bot.channels.telegram.updates import BEN, BOT, FORUM, GROUP, OURSELVES, PHOTO, PRIVATE, TEXT_FILE, message, press, said, stored
from tests.dialogue.hostile import NAUGHTY
from tests.sizes import record_proof, size

SIZE = size("hostile_updates", small=500, proof=10_000)
MAX_CHARS = 200

EXAMPLES: list[dict[str, Any]] = [
    {"update_id": number, kind: body}
    for number, (kind, body) in enumerate(
        [
            ("message", message(text="How late is it?", quote={"text": "late", "position": 0})),
            ("message", message(text="/stop", message_thread_id=7, is_topic_message=True)),
            ("message", message(document=TEXT_FILE, caption="/summarize", forward_origin={"type": "user", "sender_user": BEN})),
            ("message", message(photo=PHOTO, external_reply={"origin": {"type": "user"}, "document": TEXT_FILE})),
            ("message", said("@kefu_bot what time?", reply_to_message=message(GROUP, author=BEN, document=TEXT_FILE, caption="six"))),
            ("message", said("/help@kefu_bot", FORUM, message_thread_id=7, is_topic_message=True)),
            ("message", message(GROUP, migrate_from_chat_id=-4321)),
            (
                "edited_message",
                said("it is @kefu_bot", edit_date=1793000100, reply_to_message=message(GROUP, author=OURSELVES, text="five")),
            ),
            ("callback_query", press()),
            ("callback_query", press(data="stop", message={"chat": GROUP, "message_id": 3, "date": 0})),
            ("stopped_message_generation", {"chat": PRIVATE, "message_thread_id": 7, "draft_id": 9}),
            (
                "my_chat_member",
                {"chat": GROUP, "from": BEN, "date": 1793000000, "new_chat_member": {"status": "kicked", "user": OURSELVES}},
            ),
        ]
    )
]
CONTAINERS = ["[]", "{}", "[[]]", "[{}]", "[null]", '{"id": true}', '{"": {"": 0}}', "[" * 100 + "]" * 100]

TEXTS = st.one_of(
    st.sampled_from(NAUGHTY), st.text(st.characters(codec=None), max_size=40), st.sampled_from(["/stop", "@kefu_bot", "x" * 5000])
)
NUMBERS = st.sampled_from([0, -1, 1, BOT.id, 2**31, 2**52 - 1, 2**52, -(2**52), 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf")])
ODD = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXTS, st.sampled_from(CONTAINERS).map(json.loads)
)  # fresh each time: it gets spoiled too
REMOVED = object()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inside:
        yield (*path, key)
        yield from places(entry, (*path, key))


def put(value: Any, path: tuple[Any, ...], entry: Any) -> None:
    """Replace what stands at `path`, or take it out."""
    for key in path[:-1]:
        value = value[key]
    if entry is REMOVED:
        del value[path[-1]]
    else:
        value[path[-1]] = entry


@st.composite
def spoiled_updates(draw: st.DrawFn) -> dict[str, Any]:
    """An update as Telegram sends it, with fields that are missing, of another type, huge, naughty or new."""
    spoiled = copy.deepcopy(draw(st.sampled_from(EXAMPLES)))
    for _ in range(draw(st.integers(0, 3))):
        everywhere = list(places(spoiled))
        if everywhere:
            put(spoiled, draw(st.sampled_from(everywhere)), draw(st.one_of(st.just(REMOVED), ODD, TEXTS)))
    if draw(st.integers(0, 9)) == 0:
        spoiled[draw(st.sampled_from(["message", "poll", "tomorrow", "update_id"]))] = draw(ODD)
    return spoiled


@st.composite
def hostile_updates(draw: st.DrawFn) -> bytes:
    """The bytes of a spoiled update, sometimes cut or with one byte that does not belong there."""
    raw = json.dumps(draw(spoiled_updates()), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    damage = draw(st.integers(0, 19))
    at = draw(st.integers(0, len(raw) - 1)) if damage < 3 else 0
    if damage == 0:
        return raw[:at]
    if damage == 1:
        return raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :]
    return raw[:at] + b"[" * 100_000 + raw[at:] if damage == 2 else raw


def judge(raw: bytes, rules: ParseRules) -> str:
    """Store and parse one update; return what became of it. Whatever is promised of the outcome is asserted."""
    item = inbox_item(raw, BOT)
    assert item.raw == raw
    for text in (item.event_id, item.chat, item.sender, item.moved_from, item.moved_to):
        assert text.isascii()
    assert 0 < len(item.event_id) <= 71
    try:
        found = parse_update(stored(raw), BOT, rules)
    except UnparsableEvent:
        return "quarantined"
    if found is None:
        return "ignored"
    split_chat_key(found.key.chat)
    assert (found.key.chat, found.sender.external_id) == (item.chat, item.sender)
    assert found.is_private == item.is_private
    if isinstance(found, IncomingMessage):
        _judge_message(found)
        assert not any(body.get("from", {}).get("is_bot") for body in json.loads(raw).values() if isinstance(body, dict))
    else:
        _judge_press(found)
    return "read"


def _judge_message(found: IncomingMessage) -> None:
    texts = [found.text, found.quoted_text, found.sender.display_name, *((found.file.ref, found.file.name) if found.file else ())]
    for text in texts:
        text.encode()  # no lone surrogates
        assert not set(text) & set("\0\x1b\u202e\u200b")
    assert max(len(found.text), len(found.quoted_text)) <= MAX_CHARS
    assert len(found.sender.display_name) <= 100
    assert found.text or found.quoted_text or found.file or found.is_unreadable


def _judge_press(found: ButtonPress) -> None:
    assert len(found.data.encode()) <= 4 * 64
    assert found.press_ref.isascii()


def test_hostile_updates_do_no_harm() -> None:
    """Each of many updates made to break the reader is stored, and read, ignored or quarantined; never a crash."""
    outcomes: Counter[str] = Counter()

    @settings(max_examples=SIZE, deadline=None, derandomize=True, database=None)
    @given(hostile_updates(), st.sampled_from(GroupMode))
    def run(raw: bytes, mode: GroupMode) -> None:
        outcomes[judge(raw, ParseRules(max_chars=MAX_CHARS, group_mode=mode))] += 1

    run()
    assert set(outcomes) == {"read", "ignored", "quarantined"}
    record_proof("hostile_updates", seed="derandomized", size=SIZE, result=f"no crash; {dict(outcomes)}")


def test_naughty_strings_do_no_harm() -> None:
    """Every naughty string is read wherever a person can write: text, caption, name, file name, quote."""
    for naughty in NAUGHTY:
        author = {"id": 5, "first_name": naughty, "last_name": naughty, "language_code": naughty}
        document = TEXT_FILE | {"file_name": naughty}
        bodies = (
            message(author=author, text=naughty, quote={"text": naughty}),
            message(author=author, caption=naughty, document=document),
            said("@kefu_bot " + naughty, author=author),
        )
        for body in bodies:
            assert judge(json.dumps({"update_id": 1, "message": body}).encode(), ParseRules(max_chars=MAX_CHARS)) in {"read", "ignored"}


def test_batches_of_hostile_updates_are_split() -> None:
    """Whatever stands in an update, its neighbours arrive with their ids and exactly their bytes."""

    @settings(max_examples=SIZE // 2, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.one_of(spoiled_updates(), ODD), max_size=4), st.booleans())
    def run(updates: list[Any], is_ascii: bool) -> None:
        raws = [json.dumps(entry, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") for entry in updates]
        found = split_batch(b'{"ok":true,"result":[' + b",".join(raws) + b"]}")
        assert [raw for _, raw in found] == raws
        for update_id, raw in found:
            assert update_id is None or inbox_item(raw).event_id == str(update_id)

    run()


def test_damaged_batches_are_split_or_refused() -> None:
    """A damaged answer is split or refused as a whole; never a crash."""

    @settings(max_examples=SIZE // 5, deadline=None, derandomize=True, database=None)
    @given(st.lists(hostile_updates(), max_size=3), st.integers(0, 60))
    def run(raws: list[bytes], cut: int) -> None:
        body = b'{"ok":true,"result":[' + b",".join(raws) + b"]}"
        try:
            found = split_batch(body[: len(body) - cut])
        except UnparsableEvent:
            return
        for _, raw in found:
            judge(raw, ParseRules(max_chars=MAX_CHARS))

    run()
