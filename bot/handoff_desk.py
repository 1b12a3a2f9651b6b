"""Where people take over: take a conversation, say something in it, give it back.

A takeover is a race with an answer that is being made, so it is more than a flag. The commit of `take` lets no new message of
the bot begin; then everything that had begun is waited for, and only after that the takeover is confirmed:

- the answer that is being made in this process is abandoned, previews included (`TurnEnder`);
- answers in other processes (PostgreSQL) ask the database before each preview, so none is on its way once their claim has ended,
  or after the time of one request;
- the one message that was crossing the border has left `started`, or its deadline has passed and it is unknown.

After the confirmation the bot says nothing until `release`. Who was cut off before the confirmation takes again: that waits for
the same things, and changes nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from bot.errors import CliError, ExitCode
from dialogue.messages import ConversationKey
from storage.database import Database
from storage.errors import ClaimLost, NotFound
from storage.records import ConversationRecord, OutboxRecord, OutboxState, Owner, Takeover
from storage.repositories.outbox_reading import NEVER
from storage.unit_of_work import UnitOfWork

LOOK_S = 0.05  # how often the database is asked whether something has ended
MARGIN_MS = 1000  # a sender's own clock runs a little behind the deadline that it wrote down
END_S = 120.0  # no request, preview or file takes longer to be given up
FOLLOW_S = 20.0  # how long `say` waits for the delivery before it tells how far it came
MAX_CHARS = 16_000

_ON_ITS_WAY = (OutboxState.READY, OutboxState.STARTED)

log = structlog.get_logger(__name__)


class TurnEnder(Protocol):
    """Ends answers that are being made in this process; `bot.inbox.RunningTurns` is the real one."""

    async def end(self, key: ConversationKey) -> None:
        """Abandon the running answer of a conversation; return when nothing of it is on its way."""
        ...


class NothingRuns:
    """The `TurnEnder` of a command that opened the database itself."""

    async def end(self, key: ConversationKey) -> None:
        """No answer is being made here."""


class Desk:
    """One for each process that has the database open."""

    def __init__(
        self,
        database: Database,
        turns: TurnEnder,
        *,
        preview_s: float,  # the longest that one preview of another process can be on its way
        follow_s: float = FOLLOW_S,  # how long `say` waits for the delivery; 0 where nobody delivers
        end_s: float = END_S,
        on_queued: Callable[[], None] = lambda: None,  # hears that there is something to deliver
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._turns = turns
        self._preview_s = preview_s
        self._follow_s = follow_s
        self._end_s = end_s
        self._on_queued = on_queued
        self._sleep = sleep

    async def take(self, conversation_id: str, actor: str) -> dict[str, Any]:
        """Give the conversation to `actor`; when this returns, the bot is silent in it.

        Return how far the message came that was on its way ("" = there was none), and whether a person had the conversation already.
        Raises CliError for an unknown conversation, and when an answer does not end: the bot may not be silent yet.
        """
        takeover, already = await self._database.write(lambda unit: _take(unit, conversation_id, actor))
        await self._end(takeover.conversation)
        if self._database.dialect == "postgresql":
            await self._outwait(takeover.conversation)
        in_flight = await self._wait_for(takeover.in_flight)
        log.info("desk.taken", conversation_id=conversation_id, in_flight=in_flight, already=already)
        return {**_result(takeover.conversation, already=already), "in_flight": in_flight}

    async def say(self, conversation_id: str, text: str, actor: str, *, wait: bool = True) -> dict[str, Any]:
        """Send `text` as a person; with `wait`, see for a while what becomes of it. Return how far it came. Raises CliError."""
        words = text.strip()
        if not words:
            raise CliError("There is nothing to say.", code=ExitCode.USAGE)
        if len(words) > MAX_CHARS:
            raise CliError(f"This is too long: at most {MAX_CHARS} characters, not {len(words)}.", code=ExitCode.USAGE)
        row = await self._database.write(lambda unit: _queue(unit, conversation_id, words, actor))
        self._on_queued()
        row = await self._follow(row) if wait else row
        return {"id": row.id, "state": row.state.value, "error": row.error}

    async def release(self, conversation_id: str, actor: str) -> dict[str, Any]:
        """Give the conversation back to the bot. Raises CliError for an unknown one."""

        async def give(unit: UnitOfWork) -> dict[str, Any]:
            before = await _get(unit, conversation_id)
            return _result(await unit.conversations.release(conversation_id, actor), already=before.owner is Owner.BOT)

        return await self._database.write(give)

    async def _end(self, conversation: ConversationRecord) -> None:
        """End the answer that is being made here."""
        try:
            async with asyncio.timeout(self._end_s):
                await self._turns.end(ConversationKey(conversation.channel, conversation.account, conversation.chat))
        except TimeoutError:
            raise CliError(
                "The conversation is yours, but an answer of the bot has not ended yet.",
                hint="Take it again: that waits until the bot is silent.",
                code=ExitCode.TEMPORARY,
            ) from None

    async def _outwait(self, taken: ConversationRecord) -> None:
        """Wait until the claim of another process has ended, or the last preview that it could have begun."""
        waited_s = 0.0
        while waited_s < self._preview_s and await self._database.read(lambda unit: _is_still_claimed(unit, taken)):
            await self._sleep(LOOK_S)
            waited_s += LOOK_S

    async def _wait_for(self, row: OutboxRecord | None) -> str:
        """Wait until a message of the bot has arrived or its deadline is over; return what became of it, "" when there was none."""
        if row is None or row.turn_id is None:  # what a person said may well arrive later
            return ""
        while True:
            now, current = await self._database.read(lambda unit: _look(unit, row.id))
            if current.state is not OutboxState.STARTED or now >= current.next_attempt_at + MARGIN_MS:
                break
            await self._sleep(LOOK_S)
        if current.state in {OutboxState.STARTED, OutboxState.UNKNOWN} and current.next_attempt_at != NEVER:
            current = await self._give_up(current)
        return current.state.value

    async def _give_up(self, row: OutboxRecord) -> OutboxRecord:
        """Let nobody try it again, so that it does not hold up what the person says."""
        try:
            await self._database.write(lambda unit: unit.outbox.unknown(row.id, "a person took over"))
        except ClaimLost:
            log.info("desk.arrived_late", outbox_id=row.id)
        return await self._database.read(lambda unit: unit.outbox.get(row.id))

    async def _follow(self, row: OutboxRecord) -> OutboxRecord:
        """Return the row as it is when it has arrived, when it is tried again later, or when it takes too long."""
        waited_s = 0.0
        while row.state in _ON_ITS_WAY and not row.error and waited_s < self._follow_s:
            await self._sleep(LOOK_S)
            waited_s += LOOK_S
            _, row = await self._database.read(lambda unit, which=row.id: _look(unit, which))
        return row


async def _take(unit: UnitOfWork, conversation_id: str, actor: str) -> tuple[Takeover, bool]:
    """Take the conversation unless a person has it; return what is still to be waited for, and whether a person had it."""
    before = await _get(unit, conversation_id)
    if before.owner is Owner.HUMAN:
        return Takeover(before, await unit.outbox.in_flight(conversation_id)), True
    return await unit.conversations.take(conversation_id, actor), False


async def _queue(unit: UnitOfWork, conversation_id: str, words: str, actor: str) -> OutboxRecord:
    conversation = await _get(unit, conversation_id)
    if conversation.owner is Owner.BOT:
        raise CliError("The bot has this conversation: take it first.", hint=f"kefu conversations take {conversation_id}")
    row = await unit.outbox.enqueue(conversation_id, words, owner_epoch=conversation.owner_epoch)
    await unit.audit.append(actor, "conversation.say", conversation_id, row.id)  # last: a takeover locks in this order too
    return row


async def _get(unit: UnitOfWork, conversation_id: str) -> ConversationRecord:
    try:
        return await unit.conversations.get(conversation_id)
    except NotFound:
        raise CliError(f"There is no conversation {conversation_id}.", hint="`kefu conversations list` gives the ids.") from None


async def _look(unit: UnitOfWork, outbox_id: str) -> tuple[int, OutboxRecord]:
    return await unit.now(), await unit.outbox.get(outbox_id)


async def _is_still_claimed(unit: UnitOfWork, taken: ConversationRecord) -> bool:
    """Whether the claim of the time of the takeover holds. A newer one knows that a person has the conversation."""
    now = await unit.conversations.get(taken.id)
    return now.claim_epoch == taken.claim_epoch and await unit.conversations.is_claimed(taken.id)


def _result(conversation: ConversationRecord, *, already: bool) -> dict[str, Any]:
    return {"id": conversation.id, "owner": conversation.owner.value, "already": already}
