"""Durable before acknowledged, and quick."""

import asyncio

import pytest

from bot.inbox import RunningTurns
from dialogue.messages import ConversationKey
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.records import InboxKind, InboxState, NewInboxItem
from tests.bot.rig import build_rig

KEY = ConversationKey("fake", "bot", "chat")


def _item(number: int, text: str = "hello", kind: InboxKind = InboxKind.MESSAGE) -> NewInboxItem:
    return NewInboxItem(str(number), "chat", b'{"id": 1, "chat": "chat", "from": "ann", "text": "%s"}' % text.encode(), kind)


async def test_items_and_offset_are_durable_when_accept_returns(database: Database) -> None:
    """Another process sees both as soon as the platform may forget the update."""
    rig = await build_rig(database)
    await rig.inbox.accept([_item(1), _item(2)], 2)
    assert await rig.inbox.offset() == 2
    assert await rig.item_states() == [InboxState.NEW, InboxState.NEW]


async def test_nothing_is_acknowledged_that_was_not_stored(database: Database) -> None:
    """When the database is gone, accept raises, and the platform is asked for the same updates again."""
    rig = await build_rig(database)
    rig.platform.say("hello")
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await rig.inbox.accept([_item(1)], 1)


async def test_a_repeated_update_changes_nothing(database: Database) -> None:
    """Platforms repeat themselves; an event id is stored once, and an old /stop does not reach a newer answer."""
    rig = await build_rig(database)
    stop = _item(1, "/stop", InboxKind.STOP)
    await rig.inbox.accept([stop], 1)
    with rig.running.track(KEY) as running:
        await rig.inbox.accept([stop], 1)
        assert not running.stop.is_set()
    assert len(await rig.items()) == 1


async def test_stop_reaches_the_running_answer_at_once(database: Database) -> None:
    """The event of the running turn of this conversation is set, and of no other."""
    rig = await build_rig(database)
    other = ConversationKey("fake", "bot", "other")
    with rig.running.track(KEY) as running, rig.running.track(other) as elsewhere:
        await rig.inbox.accept([_item(1, "/stop", InboxKind.STOP)], 1)
        assert running.stop.is_set()
        assert not elsewhere.stop.is_set()


async def test_a_giant_event_is_cut_and_therefore_quarantined(database: Database) -> None:
    """An event beyond the limit fills neither memory nor table, and stays visible as an event that could not be read."""
    rig = await build_rig(database)
    await rig.inbox.accept([_item(1, "x" * 200_000)], 1)
    assert len((await rig.items())[0].raw) == 100_000
    await rig.work()
    assert await rig.item_states() == [InboxState.QUARANTINED]


async def test_a_worker_is_woken(database: Database) -> None:
    """An idle worker answers without waiting for its next look."""
    rig = await build_rig(database)
    worker = asyncio.create_task(rig.pool.run())
    await rig.say("hello")
    async with asyncio.timeout(10):
        while rig.platform.shown() == ():
            await rig.platform.changed()
    rig.pool.close()
    await worker


def test_a_turn_that_ended_cannot_be_stopped() -> None:
    """Running turns are forgotten when they end, however they end."""
    running = RunningTurns()

    async def fail() -> None:
        with running.track(KEY):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail())
    assert not running.stop(KEY)


async def test_a_successor_keeps_its_stop() -> None:
    """A worker that lost its lease and ends late does not take the stop event of the next one away."""
    running = RunningTurns()
    stalled, successor = running.track(KEY), running.track(KEY)
    stalled.__enter__()
    with successor as turn:
        stalled.__exit__(None, None, None)
        assert running.stop(KEY)
        assert turn.stop.is_set()


async def test_a_takeover_waits_for_the_running_answer() -> None:
    """`end` abandons the answer and returns when nothing of it is on its way; where nothing runs, at once."""
    running = RunningTurns()
    with running.track(KEY) as turn:
        ending = asyncio.create_task(running.end(KEY))
        await turn.abandon.wait()
        assert not ending.done()
    await ending
    await running.end(KEY)
