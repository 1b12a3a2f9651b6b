"""Planted faults: ways to build the program wrong that the crash test has to find. Wired in by the test entry alone."""

import asyncio
from contextlib import suppress

from sqlalchemy import bindparam, update

from bot import app as app_module
from bot.channels.base import Channel, OutgoingReply, Progress
from bot.channels.telegram import channel as channel_module
from bot.channels.telegram.channel import TelegramChannel
from bot.channels.telegram.parse import inbox_item, split_batch
from bot.channels.telegram.polling import Poller, next_offset
from bot.channels.telegram.render import render
from bot.delivery import Delivery
from storage.models import conversations
from storage.models import inbox as inbox_table
from storage.records import Claim, InboxState, NewTurn, OutboxRecord
from storage.repositories import fence
from storage.repositories.inbox import InboxRepository
from storage.repositories.turns import TurnRepository
from storage.unit_of_work import UnitOfWork

CARELESS_S = 0.25  # between the two steps that a planted fault has in the wrong order, so that a few kills suffice to find it
FAULTS = ("", "ack_first", "blind_resend", "no_fence", "no_claim_fence")


def plant(fault: str) -> None:
    """Build the program wrong from now on."""
    match fault:
        case "ack_first":
            channel_module.Poller = AckFirstPoller  # type: ignore[misc]
        case "blind_resend":
            TelegramChannel.deliver = _send_again  # type: ignore[method-assign]
        case "no_fence":
            app_module.Delivery = NoFenceDelivery  # type: ignore[misc]
        case "no_claim_fence":
            fence._HOLD = fence.HOLDING.where(conversations.c.id == bindparam("held_id"))  # type: ignore[misc]
            TurnRepository._answer_items = _answer_again  # type: ignore[method-assign]
            InboxRepository.renew = _stay  # type: ignore[method-assign]


async def _answer_again(self: TurnRepository, conversation_id: str, turn: NewTurn) -> None:
    """Answer items whoever has answered them before."""
    named = [int(inbox_id) for inbox_id in turn.inbox_ids]
    await self._run(update(inbox_table).where(inbox_table.c.seq.in_(named)).values(state=InboxState.DONE, turn_id=turn.id))


async def _stay(_self: InboxRepository, _claim: Claim, *, asker: str | None = None) -> bool:
    """Never hear that the lease was lost."""
    return False


class AckFirstPoller(Poller):
    """Tells Telegram to forget before anything is durable."""

    async def poll(self) -> float:
        if not await self._inlet.hold_poll():
            return 0.1
        batch = split_batch(await self._api.get_updates(await self._inlet.offset()))
        if batch:
            with suppress(TimeoutError):
                async with asyncio.timeout(CARELESS_S):
                    await self._api.get_updates(next_offset(batch))
            await asyncio.sleep(CARELESS_S)
            await self._inlet.accept([inbox_item(raw, self._bot) for _, raw in batch], next_offset(batch))
        return 0.0


async def _send_again(self: TelegramChannel, reply: OutgoingReply, progress: Progress) -> None:
    """Send the answer as a new message in each attempt, whatever became of the one before."""
    for part in render(reply.row.text):
        await self._api.send(reply.conversation.chat, part.text, part.entities)


class NoFenceDelivery(Delivery):
    """Crosses the border first, writes `started` and `sent` afterwards."""

    async def _attempt(self, channel: Channel, row: OutboxRecord) -> bool:
        conversation = await self._database.read(lambda unit: unit.conversations.get(row.conversation_id))
        await channel.deliver(OutgoingReply(row, conversation), _NothingRecorded())
        await asyncio.sleep(CARELESS_S)

        async def write_down(unit: UnitOfWork) -> None:
            await unit.outbox.start(row.id)
            await unit.outbox.sent(row.id)

        await self._database.write(write_down)
        return True


class _NothingRecorded:
    """Part of the planted fault."""

    is_repeat = False

    async def record(self, index: int, ref: str) -> None:
        """Nobody will know."""

    async def orphan(self) -> None:
        """Nobody will know."""
