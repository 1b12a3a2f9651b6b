"""Step 4: what is known when a message is answered. The one place that decides what may stand in whose prompt.

In a private chat: the conversation's own window and the user's profile. In a group: the conversation's own window, nothing
else. A profile is not even read there, so nothing that a person said in private can reach a group's prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dialogue.messages import IncomingMessage
from storage.database import Database
from storage.errors import NotFound
from storage.records import Claim, ConversationRecord, OutboxRecord, ProfileRecord, TurnRecord, UserRecord
from storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class TurnContext:
    """Everything that is known about a turn before it is answered."""

    turn_id: str
    messages: tuple[IncomingMessage, ...]  # a burst of one person, oldest first; never empty
    conversation: ConversationRecord  # as it is now; the claim's may be older
    user_id: str
    profile: ProfileRecord | None  # None in groups
    history: tuple[TurnRecord, ...]  # the window, oldest first
    language: str  # IETF tag of the user's language; never empty
    committed: tuple[TurnRecord, OutboxRecord | None] | None = None  # this very turn, when a run before this one finished it

    @property
    def text(self) -> str:
        """What the user wrote: a burst as lines."""
        return "\n".join(message.text for message in self.messages if message.text)

    @property
    def quoted_text(self) -> str:
        """What the user answered to."""
        return "\n\n".join(message.quoted_text for message in self.messages if message.quoted_text)

    @property
    def reply_to(self) -> str:
        """The platform's id of the message that the reply names; in a private chat it is clear without."""
        return "" if self.conversation.is_private else self.messages[-1].message_ref


async def load_context(
    database: Database, claim: Claim, messages: Sequence[IncomingMessage], turn_id: str, *, most_turns: int
) -> TurnContext:
    """Return what is known about this turn. A person who writes for the first time is registered. Raises StorageError."""

    async def read(work: UnitOfWork) -> TurnContext | None:
        return await _read(work, claim, tuple(messages), turn_id, most_turns)

    async def meet(work: UnitOfWork) -> TurnContext | None:
        await register(work, messages[0])
        return await read(work)

    known = await database.read(read) or await database.write(meet)
    if known is None:
        raise NotFound("this user was erased just now")
    return known


async def _read(work: UnitOfWork, claim: Claim, messages: tuple[IncomingMessage, ...], turn_id: str, most_turns: int) -> TurnContext | None:
    """Return the context, None when nobody knows the sender yet."""
    first = messages[0]
    user = await work.users.find(first.key.channel, first.key.account, first.sender.external_id)
    if user is None:
        return None
    conversation = await work.conversations.get(claim.conversation.id)
    is_private = conversation.is_private and all(message.is_private for message in messages)
    profile = await work.users.profile(user.id) if is_private else None
    history = await work.turns.window(conversation.id, after_seq=conversation.window_start - 1, limit=most_turns)
    return TurnContext(
        turn_id=turn_id,
        messages=messages,
        conversation=conversation,
        user_id=user.id,
        profile=profile,
        history=history,
        language=choose_language(profile, messages, history),
        committed=await find_committed(work, turn_id),
    )


async def register(work: UnitOfWork, message: IncomingMessage) -> UserRecord:
    """Return the sender as a user; name and language follow the platform."""
    key, sender = message.key, message.sender
    return await work.users.ensure(key.channel, key.account, sender.external_id, sender.display_name, sender.language)


async def find_committed(work: UnitOfWork, turn_id: str) -> tuple[TurnRecord, OutboxRecord | None] | None:
    """Return the turn with this id and its outbox row, None when it was not committed yet."""
    try:
        turn = await work.turns.get(turn_id)
    except NotFound:
        return None
    return turn, await work.outbox.of_turn(turn_id)


def choose_language(profile: ProfileRecord | None, messages: Sequence[IncomingMessage], history: Sequence[TurnRecord]) -> str:
    """Return the language that the user chose, else what the platform says, else that of the oldest text in the window.

    The oldest, because the assistant's own words stand at the start of the prompt: they must not change from turn to turn.
    """
    chosen = profile.language if profile else ""
    platform = next((message.sender.language for message in messages if message.sender.language), "")
    return chosen or platform or guess_language(history[0].user_text if history else messages[0].text)


def guess_language(text: str) -> str:
    """Return "zh" when a fifth or more of the letters are Chinese characters, else "en": what the assistant itself can speak."""
    letters = [character for character in text if character.isalpha()]
    chinese = sum(1 for letter in letters if "\u4e00" <= letter <= "\u9fff")
    return "zh" if letters and chinese * 5 >= len(letters) else "en"
