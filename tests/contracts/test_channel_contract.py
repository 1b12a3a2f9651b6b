"""What every channel promises, tried on each one that ships."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.channels.base import Channel, UnparsableEvent
from dialogue.messages import IncomingMessage
from storage.records import InboxKind, NewInboxItem
from tests.contracts.channels import ARMS, TERMINAL, Arm, InletAway, MemoryInlet, Noted, Person, ask_channel, record, reply

hostile = st.binary(max_size=200) | st.text(max_size=50).map(str.encode) | st.integers(1, 3000).map(b"[".__mul__)
channels = pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
with_parts = pytest.mark.parametrize("arm", [arm for arm in ARMS if arm is not TERMINAL], ids=lambda arm: arm.name)
safe_to_repeat = pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.resend_is_safe], ids=lambda arm: arm.name)

Stage = Callable[[Arm], Awaitable[tuple[Channel, Person]]]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A function that makes a channel and a person, who leave after the test."""
    async with AsyncExitStack() as stack:

        async def enter(arm: Arm) -> tuple[Channel, Person]:
            channel, person = await stack.enter_async_context(arm.make())
            assert channel.capabilities.resend_is_safe == arm.resend_is_safe
            return channel, person

        yield enter


async def _receive(channel: Channel, inlet: MemoryInlet, count: int = 1) -> list[NewInboxItem]:
    """Let the channel receive until `count` items were accepted."""
    receiving = asyncio.create_task(channel.receive(inlet))
    async with asyncio.timeout(10):
        await inlet.has(count)
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receiving
    return inlet.accepted


async def _received(stage: Stage, arm: Arm, text: str) -> tuple[Channel, Person, NewInboxItem]:
    channel, person = await stage(arm)
    person.say(text)
    (item,) = await _receive(channel, MemoryInlet())
    return channel, person, item


@channels
async def test_a_message_arrives_whole(arm: Arm, stage: Stage) -> None:
    """Text, conversation and sender come back from the stored bytes; reading them twice gives the same."""
    channel, _, item = await _received(stage, arm, "hello 客服 👍🏽")
    message = channel.parse(record(channel, item))
    assert isinstance(message, IncomingMessage)
    assert (message.text, message.is_private) == ("hello 客服 👍🏽", True)
    assert (message.key.channel, message.key.account, message.key.chat) == (channel.name, channel.account, item.chat)
    assert message.sender.external_id
    assert channel.parse(record(channel, item)) == message


@channels
async def test_what_cannot_be_seen_is_removed(arm: Arm, stage: Stage) -> None:
    """Control and bidirectional characters do not reach the dialogue."""
    channel, _, item = await _received(stage, arm, "a\x1b[31mb\u202ec\x00")
    message = channel.parse(record(channel, item))
    assert isinstance(message, IncomingMessage)
    assert message.text == "a[31mbc"


@channels
async def test_stop_is_known_before_parsing(arm: Arm, stage: Stage) -> None:
    """A /stop is marked on arrival, so that it reaches a running answer; other words are not."""
    assert (await _received(stage, arm, "/stop"))[2].kind is InboxKind.STOP
    assert (await _received(stage, arm, "/stop it"))[2].kind is InboxKind.MESSAGE


@channels
async def test_nothing_is_lost_that_was_not_accepted(arm: Arm, stage: Stage) -> None:
    """When accept fails, the failure comes out of receive; a platform that remembers gives the message again."""
    channel, person = await stage(arm)
    person.say("hello")
    away = MemoryInlet(refuse=True)
    with pytest.raises(InletAway):
        async with asyncio.timeout(10):
            await channel.receive(away)
    if channel.name != "terminal":  # a person at a terminal sees that the program ended
        assert len(await _receive(channel, MemoryInlet())) == 1


@channels
async def test_events_have_names_of_their_own(arm: Arm, stage: Stage) -> None:
    """Equal texts are different events."""
    seen = {(await _received(stage, arm, "hello"))[2].event_id} if arm.name == "terminal" else set()
    channel, person = await stage(arm)
    person.say("hello")
    person.say("hello")
    items = await _receive(channel, MemoryInlet(), count=1 if arm.name == "terminal" else 2)
    assert len({item.event_id for item in items} | seen) == 2


@channels
async def test_the_stored_text_is_what_is_seen(arm: Arm, stage: Stage) -> None:
    """Exactly the text of the row is on the screen, however many parts the platform needs; each part is recorded."""
    channel, person = await stage(arm)
    noted = Noted()
    await channel.deliver(reply(channel, "a long answer, in parts", chat=arm.chat), noted)
    assert "".join(person.saw()) == "a long answer, in parts"
    assert sorted(noted.refs) == list(range(len(noted.refs)))


@with_parts
async def test_an_error_while_recording_comes_through(arm: Arm, stage: Stage) -> None:
    """Who may not record a part does not go on: the row is in other hands."""
    channel, person = await stage(arm)
    with pytest.raises(InletAway):
        await channel.deliver(reply(channel, "a long answer, in parts", chat=arm.chat), Noted(refuse=True))
    assert len(person.saw()) <= 1


@safe_to_repeat
async def test_repeating_is_safe_where_it_is_said_to_be(arm: Arm, stage: Stage) -> None:
    """A second delivery with what was recorded shows nothing twice."""
    channel, person = await stage(arm)
    noted = Noted()
    await channel.deliver(reply(channel, "an answer in parts", chat=arm.chat), noted)
    await channel.deliver(reply(channel, "an answer in parts", chat=arm.chat, chunks=noted.chunks), Noted(is_repeat=True))
    assert "".join(person.saw()) == "an answer in parts"


@given(raw=hostile)
@channels
async def test_hostile_bytes_are_read_or_refused(arm: Arm, raw: bytes) -> None:
    """Whatever bytes a platform sends, parsing gives a message, nothing, or UnparsableEvent."""
    if arm.name not in _READERS:
        async with arm.make() as (channel, _):
            _READERS[arm.name] = channel
    with contextlib.suppress(UnparsableEvent):
        _READERS[arm.name].parse(record(_READERS[arm.name], NewInboxItem("1", "chat", raw)))


_READERS: dict[str, Channel] = {}  # reading needs no contact any more, so one of each kind is enough


@given(raw=hostile)
def test_hostile_bytes_do_not_break_ask(raw: bytes) -> None:
    """The channel of `kefu ask` reads the same table, and refuses what it did not write."""
    channel = ask_channel()
    with contextlib.suppress(UnparsableEvent):
        assert channel.parse(record(channel, NewInboxItem("1", "chat", raw))) is None
