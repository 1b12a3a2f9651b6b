"""Previews never get into the way of the answer."""

import asyncio

import pytest

from bot.channels.base import DeliveryError, DeliveryRetry, DeliveryUnknown, ReplyTarget
from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.reply_stream import EditPainter
from dialogue.messages import ConversationKey, IncomingMessage, ReplyDelta, Sender
from storage.records import ConversationRecord, Owner
from tests.virtual_time import run_virtually

CHAT = "-4001"
SETTLE_S = 15.0


class FailingApi(TelegramApi):
    """Shows the placeholder, and has one outcome for every edit."""

    def __init__(self, outcome: DeliveryError) -> None:
        self.outcome = outcome
        self.edited = asyncio.Event()

    def has_room(self, *_: object, **__: object) -> bool:
        return True

    async def typing(self, chat: str) -> None:
        """Nothing to see."""

    async def send(self, *_: object, **__: object) -> str:
        return "7"

    async def edit(self, *_: object, **__: object) -> None:
        self.edited.set()
        raise self.outcome


class OpenSlot:
    """A slot in memory."""

    async def reserve(self) -> str:
        return ""

    async def fill(self, ref: str) -> None:
        """Nobody asks."""

    async def may_show(self) -> bool:
        return True


def _target() -> ReplyTarget:
    conversation = ConversationRecord("c", "telegram", "1", CHAT, False, Owner.BOT, 0, 1, None, "", 1, "", 0, 0)
    message = IncomingMessage(ConversationKey("telegram", "1", CHAT), Sender("1001"), "hello", is_private=False, message_ref="5")
    return ReplyTarget(conversation, "t" * 20 + "0123456", message)


async def _seconds_to_close(outcome: DeliveryError) -> float:
    api = FailingApi(outcome)
    painter = EditPainter(api, _target(), OpenSlot(), every_s=1.0, settle_s=SETTLE_S)
    await painter.show(ReplyDelta("You"))
    await api.edited.wait()
    began = asyncio.get_running_loop().time()
    await painter.close()
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(("outcome", "seconds"), [(DeliveryUnknown("no answer"), SETTLE_S), (DeliveryRetry("busy", 3.0), 0.0)])
def test_a_preview_that_comes_late_cannot_overwrite_the_answer(outcome: DeliveryError, seconds: float) -> None:
    """An edit that got no answer once came after the final text and left "You said" on the screen: now it is waited for."""
    assert run_virtually(_seconds_to_close(outcome)) == pytest.approx(seconds)
