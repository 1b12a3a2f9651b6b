"""Who gets an answer: what is judged before the dialogue hears of a message, and what is said instead of an answer.

    too old? ─► may this person write, and so much? ─► can the file be read? ─► the messages as the dialogue gets them

Whoever does not come through is told why, without a generation. These words are a turn, so that they are stored and delivered
like every answer, but they never stand in a prompt.
"""

from dataclasses import dataclass

import structlog

from bot.access import LIMIT_SKILL, AccessPolicy
from bot.channels.base import Channel, FileRefused
from bot.command_words import say as say_command
from bot.turn_choice import Chosen
from dialogue.context import guess_language, register
from dialogue.messages import IncomingMessage
from dialogue.router import parse_command
from dialogue.words import say
from storage.database import Database
from storage.ids import new_id
from storage.records import Claim, NewTurn, TurnStatus
from storage.unit_of_work import UnitOfWork

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no answer."""

    words: str  # said instead of one; "" = not even those


class TurnAdmission:
    """Judges the turns of all workers of a process."""

    def __init__(self, database: Database, access: AccessPolicy, *, queue_s: float) -> None:
        self._database = database
        self._access = access
        self._queue_ms = queue_s * 1000
        self._since: int | None = None  # database time of the first claim; None = none yet

    async def judge(self, channel: Channel, claim: Claim, chosen: Chosen) -> tuple[IncomingMessage, ...] | Refusal:
        """Return the messages that are answered, their files read, or why they are not. Raises StorageError and DeliveryRetry."""
        message = chosen.messages[-1]
        if self._waited_too_long(claim, chosen):
            return Refusal(say_command("overloaded_wait", _language(message)))
        if not channel.capabilities.is_local:
            verdict = await self._access.check(self._database, claim, message, _language(message))
            if verdict.is_silent or verdict.text:
                return Refusal(verdict.text)
        try:
            return tuple([await _complete(channel, one) for one in chosen.messages])
        except FileRefused as error:
            log.info("worker.file_refused", conversation_id=claim.conversation.id, reason=str(error))
            return Refusal(say_command(error.reason, _language(message), **error.values))

    async def say_instead(self, claim: Claim, chosen: Chosen, refusal: Refusal) -> None:
        """Answer the turn with these words: they are ready to be delivered. Raises StorageError."""
        if not refusal.words:
            await self._database.write(lambda unit: unit.inbox.dismiss(claim, chosen.inbox_ids))
            return
        message = chosen.messages[-1]
        said = "\n".join(one.text for one in chosen.messages)

        async def commit(unit: UnitOfWork) -> None:
            user = await register(unit, message)
            turn = NewTurn(new_id(), user.id, LIMIT_SKILL, TurnStatus.FAILED, said, refusal.words, chosen.inbox_ids, in_history=False)
            reply_to = "" if claim.conversation.is_private else message.message_ref
            await unit.turns.commit(claim, turn, reply=refusal.words, reply_to=reply_to, owner_epoch=claim.conversation.owner_epoch)

        await self._database.write(commit)

    def _waited_too_long(self, claim: Claim, chosen: Chosen) -> bool:
        if self._since is None:
            self._since = claim.claimed_at
        received_at = chosen.items[-1].received_at
        return received_at >= self._since and claim.claimed_at - received_at > self._queue_ms


def gave_up(chosen: Chosen) -> Refusal:
    """Return what is said for messages whose turns failed for good."""
    return Refusal(say("poisoned", _language(chosen.messages[-1])))


async def _complete(channel: Channel, message: IncomingMessage) -> IncomingMessage:
    """Fetch the file of a message that asks for something to be done with it."""
    return await channel.complete(message) if message.file is not None and parse_command(message.text) else message


def _language(message: IncomingMessage) -> str:
    return message.sender.language or guess_language(message.text)
