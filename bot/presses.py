"""What pressed buttons do: opinions about answers are stored, what somebody wants forgotten is erased.

The effect and the end of the event are one transaction, so a press is done once, however often it is handed out. Pressing
again changes an opinion, it never adds one. Where somebody presses a button that is not for them, nothing happens.

A press may come in as one of another thread of its chat than that of its message: of an old message, a platform tells only
the chat. So an opinion belongs to the conversation of the answer that it names, which has to be one of this chat.
"""

from collections.abc import Sequence

import structlog

from bot.channels.base import PressOutcome
from bot.command_words import say
from bot.housekeeping import Scrubber
from bot.rating import GOOD, Opinion, Wish, rated_buttons, read_press
from dialogue.messages import ButtonPress
from storage.database import Database
from storage.errors import NotFound
from storage.records import Claim, ConversationRecord, Owner, ProfileRecord, UserRecord
from storage.unit_of_work import UnitOfWork

NOTHING = PressOutcome()

log = structlog.get_logger(__name__)


class PressHandler:
    """Handles the presses of all channels."""

    def __init__(self, database: Database, scrubber: Scrubber) -> None:
        self._database = database
        self._scrubber = scrubber

    async def handle(self, claim: Claim, press: ButtonPress, inbox_ids: Sequence[str]) -> PressOutcome | None:
        """Do what the button is for and end its event; return what changes on the screen. Raises StorageError.

        None = a person has the conversation in which the answer stands: there the bot is silent.
        """
        meaning = read_press(press.data)

        async def do(unit: UnitOfWork) -> PressOutcome | None:
            await unit.inbox.dismiss(claim, inbox_ids)
            match meaning:
                case Opinion():
                    return await _rate(unit, press, meaning)
                case Wish():
                    return await _forget(unit, claim, press, meaning)
                case _:
                    return NOTHING

        outcome = await self._database.write(do)
        if isinstance(meaning, Wish) and meaning.scope != "cancel" and outcome != NOTHING:
            log.info("press.forget", scope=meaning.scope, conversation_id=claim.conversation.id)
            self._scrubber.request()
        return outcome


async def _rate(unit: UnitOfWork, press: ButtonPress, opinion: Opinion) -> PressOutcome | None:
    try:
        conversation = await _conversation_of(unit, press, opinion.turn_id)
        user = await _rater(unit, press)
        before = await unit.feedback.of(opinion.turn_id, user.id)
        if before is not None and before.rating == opinion.rating and not opinion.reason:
            opinion = Opinion(opinion.turn_id, opinion.rating, before.reason)  # the face again: the reason stays
        await unit.feedback.rate(opinion.turn_id, user.id, opinion.rating, "" if opinion.rating == GOOD else opinion.reason)
    except NotFound:  # somebody else's answer, or one that was erased
        return NOTHING
    if conversation.owner is Owner.HUMAN:
        return None
    return PressOutcome(buttons=rated_buttons(opinion, await _language(unit, press, user.id)))


async def _conversation_of(unit: UnitOfWork, press: ButtonPress, turn_id: str) -> ConversationRecord:
    """Return the conversation of an answer in the chat of the press. Raises NotFound for one of another chat."""
    conversation, key = await unit.conversations.get((await unit.turns.get(turn_id)).conversation_id), press.key
    of_answer = (conversation.channel, conversation.account, _without_thread(conversation.chat))
    if of_answer != (key.channel, key.account, _without_thread(key.chat)):
        raise NotFound("no such answer in this chat")
    return conversation


def _without_thread(chat: str) -> str:
    return chat.partition("/")[0]


async def _rater(unit: UnitOfWork, press: ButtonPress) -> UserRecord:
    """Return who rates an answer of this chat. In a group that may be somebody who never wrote. Raises NotFound."""
    key, sender = press.key, press.sender
    if not press.is_private:
        return await unit.users.ensure(key.channel, key.account, sender.external_id, sender.display_name, sender.language)
    user = await unit.users.find(key.channel, key.account, sender.external_id)
    if user is None:
        raise NotFound("nobody knows this person")
    return user


async def _forget(unit: UnitOfWork, claim: Claim, press: ButtonPress, wish: Wish) -> PressOutcome:
    if press.sender.external_id != wish.person or not _fits(wish, press):
        return NOTHING
    user = await unit.users.find(press.key.channel, press.key.account, press.sender.external_id)
    language = await _language(unit, press, user.id if user else None)
    if wish.scope == "cancel":
        return PressOutcome(say("forget_cancelled", language), ())
    if user is None:
        await unit.conversations.erase_chat(claim.conversation.id)
        return PressOutcome(say("forget_nothing", language), ())
    if wish.scope == "memory":
        await unit.users.forget_profile(user.id)
        return PressOutcome(say("forget_memory_done", language), ())
    counts = await unit.users.erase(user.id, None if wish.scope == "all" else claim.conversation.id)
    await unit.audit.append("user", "user.erase", user.id, wish.scope)
    tables = {"turns": "turns", "notes": "profile_notes", "feedback": "feedback"}
    return PressOutcome(say("forget_done", language, **{name: counts.get(table, 0) for name, table in tables.items()}), ())


def _fits(wish: Wish, press: ButtonPress) -> bool:
    """Whether such a button stands in such a chat: in a group nobody erases more than what they wrote there."""
    return wish.scope == "cancel" or (wish.scope == "here") is not press.is_private


async def _language(unit: UnitOfWork, press: ButtonPress, user_id: str | None) -> str:
    """Return the language that the person chose, in private chats, else the one that the platform says."""
    profile = await unit.users.profile(user_id) if user_id is not None and press.is_private else ProfileRecord("")
    return profile.language or press.sender.language or "en"
