"""Previews neither slow nor break an answer."""

import asyncio

import pytest

from bot import preview as preview_module
from bot.channels.base import DeliveryRetry
from bot.preview import Preview
from dialogue.messages import ReplyCommitted, ReplyDelta, ReplyEvent, ReplyRestarted, ReplyWaiting
from storage.records import TurnRecord, TurnStatus

COMMITTED = ReplyCommitted(TurnRecord("t", "c", 1, "u", "chat", TurnStatus.ANSWERED, "", "", "", "", 0, 0, 0), "o")


class Stream:
    """Notes what it is shown; `gate` makes the platform slow, `error` breaks it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[ReplyEvent] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.closed = 0
        self._error = error

    async def show(self, event: ReplyEvent) -> None:
        self.seen.append(event)
        self.entered.set()
        await self.gate.wait()
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self.closed += 1


async def test_nothing_waits_for_a_slow_platform() -> None:
    """The reply ends while a preview is on its way; what was not shown by then is dropped, except how it ended."""
    stream = Stream()
    async with Preview(stream, turn_id="t") as preview:
        preview.show(ReplyWaiting(2))
        await stream.entered.wait()
        for letter in "abc":
            preview.show(ReplyDelta(letter))
        preview.show(COMMITTED)
        stream.gate.set()
    assert stream.seen == [ReplyWaiting(2), COMMITTED]
    assert stream.closed == 1


async def test_pieces_are_joined_in_order() -> None:
    """A stream that catches up sees all the text before the end."""
    stream = Stream()
    async with Preview(stream, turn_id="t") as preview:
        preview.show(ReplyDelta("a"))
        await stream.entered.wait()
        stream.entered.clear()
        preview.show(ReplyDelta("b"))
        preview.show(ReplyDelta("c"))
        stream.gate.set()
        await stream.entered.wait()
    assert stream.seen == [ReplyDelta("a"), ReplyDelta("bc")]


async def test_a_restart_voids_what_was_not_shown_yet() -> None:
    """Text of a lost engine that still waits is dropped."""
    stream = Stream()
    stream.gate.set()
    async with Preview(stream, turn_id="t") as preview:
        preview.show(ReplyDelta("void"))
        preview.show(ReplyRestarted())
        preview.show(COMMITTED)
        await stream.entered.wait()
    assert ReplyDelta("void") not in stream.seen


@pytest.mark.parametrize("error", [DeliveryRetry("too many requests"), ZeroDivisionError()])
async def test_an_error_ends_the_previews_only(error: Exception) -> None:
    """After the first error nothing more is shown, and nobody else notices."""
    stream = Stream(error)
    stream.gate.set()
    async with Preview(stream, turn_id="t") as preview:
        preview.show(ReplyDelta("a"))
        await stream.entered.wait()
        preview.show(COMMITTED)
    assert stream.seen == [ReplyDelta("a")]
    assert stream.closed == 1


async def test_a_preview_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The final answer does not wait for ever for a preview."""
    monkeypatch.setattr(preview_module, "CLOSE_S", 0.01)
    stream = Stream()
    async with Preview(stream, turn_id="t") as preview:
        preview.show(ReplyDelta("a"))
        await stream.entered.wait()


async def test_a_silent_one_shows_the_end_only() -> None:
    """Behind an undelivered answer nothing may appear, but the channel still hears how the turn ended."""
    stream = Stream()
    stream.gate.set()
    async with Preview(stream, turn_id="t", silent=True) as preview:
        preview.show(ReplyDelta("a"))
        preview.show(COMMITTED)
    assert stream.seen == [COMMITTED]
