"""The Telegram channel in front of a fake Telegram in the same process, all of them in one time that the test moves by hand."""

import asyncio
from dataclasses import dataclass

from bot.channels.base import ReplyTarget
from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.channel import TelegramChannel
from bot.channels.telegram.config import TelegramConfig
from bot.channels.telegram.fake_server import FakeTelegram
from bot.channels.telegram.groups import GroupMode, ParseRules
from bot.channels.telegram.polling import Poller
from bot.channels.telegram.reply_stream import Painter, Painters
from bot.placeholder import OutboxPlaceholder
from bot.preview import Preview
from bot.ratelimit import RateLimiter, Rates
from dialogue.extras import ReplyExtras
from dialogue.messages import ConversationKey, IncomingMessage, ReplyCommitted, ReplyDelta, Sender
from storage.clock import ManualClock
from storage.database import Database
from storage.ids import new_id
from storage.records import Claim, ConversationRecord, NewInboxItem, NewTurn, OutboxRecord, OutboxState, TurnStatus
from storage.unit_of_work import UnitOfWork
from tests.bot.rig import Rig, build_rig

TIMEOUT_S = 10.0  # real seconds; nothing here comes near
PAINT_S = 0.02  # real seconds that a preview gets to show
LONGEST_ROUND_MS = 301_000  # no retry is postponed for longer
ROUNDS = 60


@dataclass
class HandTime:
    """The time of the database, in seconds, for the fake and for the limiter; who sleeps moves it."""

    clock: ManualClock

    def seconds(self) -> float:
        return self.clock.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000) + 1)
        await asyncio.sleep(0)


@dataclass
class TelegramRig:
    """Everything between a fake Telegram and a database."""

    telegram: FakeTelegram
    channel: TelegramChannel
    poller: Poller
    rig: Rig
    time: HandTime

    async def receive(self) -> None:
        """Poll until nothing waits."""
        while self.telegram.pending():
            await self.poller.poll()

    async def deliver_the_rest(self) -> None:
        """Let time pass until every answer is out: what was to come late comes now, postponed attempts are due."""
        for _ in range(ROUNDS):
            self.telegram.settle()
            if not await self.rig.database.read(lambda unit: unit.outbox.counts()):
                return
            self.time.clock.advance(LONGEST_ROUND_MS)
            await self.rig.delivery.sweep()

    async def stream(self, chat: int, text: str, pieces: list[str]) -> OutboxRecord:
        """Answer in a chat as a worker does, the previews in pieces; return the row when it is out."""
        claim = await self._claim(chat)
        conversation, turn_id = claim.conversation, new_id()
        message = IncomingMessage(ConversationKey("telegram", self.channel.account, str(chat)), Sender("1"), "?", is_private=chat > 0)
        slot = OutboxPlaceholder(self.rig.database, claim, turn_id, "")
        target = ReplyTarget(conversation, turn_id, message)
        painter = self.channel._painters.begin(target, slot)
        async with Preview(painter, turn_id=turn_id) as preview:
            for piece in pieces:
                preview.show(ReplyDelta(piece))
                await self._let_it_paint(painter)
            committed = await self._commit(claim, message, turn_id, text)
            preview.show(committed)
        return await self._deliver(conversation, turn_id)

    async def _claim(self, chat: int) -> Claim:
        names = (self.channel.name, self.channel.account)
        item = NewInboxItem(f"{chat}", str(chat), b"{}", is_private=chat > 0, sender="1")
        await self.rig.database.write(lambda unit: unit.inbox.accept(*names, [item]))
        claim = await self.rig.database.write(lambda unit: unit.inbox.claim("worker"))
        assert claim is not None
        return claim

    async def _let_it_paint(self, painter: Painter) -> None:
        """Wait until something is seen on Telegram, if the previews have not ended."""
        self.time.clock.advance(700)
        seen = asyncio.create_task(self.telegram.changed())
        await asyncio.wait({seen, painter._task}, timeout=PAINT_S, return_when=asyncio.FIRST_COMPLETED)
        seen.cancel()

    async def _commit(self, claim: Claim, message: IncomingMessage, turn_id: str, text: str) -> ReplyCommitted:
        async def commit(unit: UnitOfWork) -> ReplyCommitted:
            user = await unit.users.ensure("telegram", self.channel.account, message.sender.external_id)
            extras, inbox_ids = ReplyExtras(is_rateable=True).encode(), tuple(item.id for item in claim.items)
            turn = NewTurn(turn_id, user.id, "chat", TurnStatus.ANSWERED, "?", text, inbox_ids, extras=extras)
            recorded, row = await unit.turns.commit(claim, turn, reply=text, owner_epoch=claim.conversation.owner_epoch)
            await unit.inbox.release(claim)
            return ReplyCommitted(recorded, row.id if row else None)

        return await self.rig.database.write(commit)

    async def _deliver(self, conversation: ConversationRecord, turn_id: str) -> OutboxRecord:
        delivery, database = self.rig.delivery, self.rig.database
        async with delivery.lane(conversation.id):
            await delivery.drain(self.channel, conversation.id)
        for _ in range(ROUNDS):
            row = await database.read(lambda unit: unit.outbox.of_turn(turn_id))
            assert row is not None
            if row.state is OutboxState.SENT:
                return row
            self.time.clock.advance(max(0, row.next_attempt_at - self.time.clock.now) + 1)
            await delivery.sweep()
        raise AssertionError(f"not delivered: {row}")


async def telegram_rig(database: Database, telegram: FakeTelegram, time: HandTime, *, rates: Rates) -> TelegramRig:
    """Wire it, and make contact."""
    limiter = RateLimiter(rates, clock=time.seconds, sleep=time.sleep)
    api = TelegramApi(telegram.token, base_url=telegram.base_url, timeout_s=TIMEOUT_S, poll_s=0, limiter=limiter)
    account = telegram.token.partition(":")[0]
    channel = TelegramChannel(api, TelegramConfig(account, ParseRules(group_mode=GroupMode.ALL), timeout_s=TIMEOUT_S))
    channel._painters = Painters(api, drafts=True, every_s=0.0, settle_s=0.0)  # the fake lets nothing come late but in `settle`
    await channel.open()
    rig = await build_rig(database, also=channel)
    return TelegramRig(telegram, channel, Poller(api, channel._identity, rig.inlet(channel)), rig, time)
