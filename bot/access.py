"""Who may write to the assistant, and how much: the owner's lists, and limits for each person.

What somebody has used is counted in the database, so it survives a restart and holds across processes. The polite answer is
given to a person once in each window; what comes after it is left unanswered, or a flood would be answered with a flood.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bot.access_config import AccessConfig
from bot.command_words import say
from dialogue.messages import ConversationKey, IncomingMessage, Sender
from dialogue.router import parse_command
from storage.database import Database
from storage.records import Claim, UserRecord
from storage.unit_of_work import UnitOfWork

LIMIT_SKILL: Final = "limit"  # TurnRecord.skill of an answer that says why there is none
MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
LOOKED_AT: Final = 50  # turns among which a conversation is searched for what was said to somebody
ALWAYS: Final = frozenset({"stop", "forget", "privacy", "export", "human"})  # commands that no limit takes away


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of a message."""

    text: str = ""  # said instead of an answer
    is_silent: bool = False  # there is no answer at all


ALLOWED: Final = Verdict()
SILENT: Final = Verdict(is_silent=True)


class AccessPolicy:
    """Judges messages before they are answered."""

    def __init__(self, config: AccessConfig) -> None:
        self._config = config

    def is_owner(self, key: ConversationKey, sender: Sender) -> bool:
        return _is_named(self._config.owners, key, sender)

    async def check(self, database: Database, claim: Claim, message: IncomingMessage, language: str) -> Verdict:
        """Return whether the message may be answered. Raises StorageError."""
        config, key, sender = self._config, message.key, message.sender
        if self.is_owner(key, sender):
            return ALLOWED
        if _is_named(config.block, key, sender):
            return SILENT
        if config.allow and not _is_named(config.allow, key, sender):
            return await _once(database, claim, message, MINUTE_MS, say("not_allowed", language))
        command = parse_command(message.text)
        if (command is not None and command[0] in ALWAYS) or not (config.messages_per_minute or config.tokens_per_day):
            return ALLOWED
        return await self._check_limits(database, claim, message, language)

    async def _check_limits(self, database: Database, claim: Claim, message: IncomingMessage, language: str) -> Verdict:
        config = self._config

        async def look(unit: UnitOfWork) -> tuple[bool, bool]:
            user = await _find(unit, message)
            if user is None:
                return False, False
            now = await unit.now()
            limit, allowance = config.messages_per_minute, config.tokens_per_day
            too_fast = bool(limit) and (await unit.turns.usage(user.id, since=now - MINUTE_MS)).turns >= limit
            too_much = bool(allowance) and (await unit.turns.usage(user.id, since=now - DAY_MS)).tokens >= allowance
            return too_fast, too_much

        too_fast, too_much = await database.read(look)
        if too_much:
            return await _once(database, claim, message, DAY_MS, say("limit_day", language))
        if too_fast:
            return await _once(database, claim, message, MINUTE_MS, say("limit_minute", language, limit=config.messages_per_minute))
        return ALLOWED


async def _once(database: Database, claim: Claim, message: IncomingMessage, window_ms: int, text: str) -> Verdict:
    """Return the words, or silence if this person was told them in this window, whatever was said since to others."""

    async def was_told(unit: UnitOfWork) -> bool:
        user = await _find(unit, message)
        since = await unit.now() - window_ms
        turns = await unit.turns.list(claim.conversation.id, limit=LOOKED_AT)
        refusals = [turn for turn in turns if turn.skill == LIMIT_SKILL and turn.created_at >= since and turn.reply_text == text]
        return user is not None and any(turn.user_id == user.id for turn in refusals)

    return SILENT if await database.read(was_told) else Verdict(text)


async def _find(unit: UnitOfWork, message: IncomingMessage) -> UserRecord | None:
    return await unit.users.find(message.key.channel, message.key.account, message.sender.external_id)


def _is_named(people: Iterable[str], key: ConversationKey, sender: Sender) -> bool:
    return sender.external_id in people or f"{key.channel}:{sender.external_id}" in people
