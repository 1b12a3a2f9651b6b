"""The project's own turns as samples: what customers asked, what was answered, and what people would rather have answered.

A correction takes the place of the reply. A reply that was called bad and not corrected is left out with its question. What was not
answered, or does not stand in later prompts (a command, a canned text), is left out too. A user's turns stay together in one split,
and are known in the dataset by a hash of the user's id, which finds them again when the user wants to be forgotten.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from finetune.sources.rows import Row
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.records import FeedbackRecord, TurnRecord
from storage.unit_of_work import UnitOfWork

DATABASE: Final = "database"  # the name of this source's only "file"
_LEARNED: Final = frozenset({"chat", "support"})  # of other skills only the plan is stored, not what the user wrote
_USERS_AT_ONCE: Final = 100


@dataclass(slots=True)
class OwnTurns:
    """Dialogues as rows, and the reasons for what is not among them, one for each turn."""

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


async def read_own_turns(config: StorageConfig) -> OwnTurns:
    """Return the learnable turns of the database. Raises StorageError, for example while `kefu run` has the SQLite file."""
    database = await open_database(config, owner="kefu finetune prepare")
    try:
        return await collect(database)
    finally:
        await database.close()


async def collect(database: Database) -> OwnTurns:
    """Return the learnable turns of an open database, user by user."""
    found = OwnTurns()
    last = ""
    while users := await database.read(lambda unit, after=last: unit.users.list(after=after, limit=_USERS_AT_ONCE)):
        for user in users:
            turns, opinions = await database.read(lambda unit, user_id=user.id: _of_user(unit, user_id))
            _add(found, turns, opinions)
        last = users[-1].id
    return found


async def _of_user(unit: UnitOfWork, user_id: str) -> tuple[tuple[TurnRecord, ...], tuple[FeedbackRecord, ...]]:
    return await unit.turns.answered(user_id), await unit.feedback.on_turns_of(user_id)


def _add(found: OwnTurns, turns: Sequence[TurnRecord], opinions: Sequence[FeedbackRecord]) -> None:
    said: dict[str, FeedbackRecord] = {}
    for opinion in opinions:  # oldest first: the newest counts, but a correction is not lost to a later thumb
        if opinion.correction or not said.get(opinion.turn_id, opinion).correction:
            said[opinion.turn_id] = opinion
    for conversation, spoken in groupby(turns, key=lambda turn: turn.conversation_id):
        messages: list[dict[str, Any]] = []
        for turn in spoken:
            reply, reason = learned_reply(turn, said.get(turn.id))
            if reason:
                found.left_out.append(reason)
            else:
                messages += [{"role": "user", "content": turn.user_text}, {"role": "assistant", "content": reply}]
        if messages:
            found.rows.append(_row(len(found.rows) + 1, conversation, turns[0].user_id, messages))


def learned_reply(turn: TurnRecord, opinion: FeedbackRecord | None) -> tuple[str, str]:
    """Return the reply to learn, and why there is none ("" = there is one)."""
    if turn.skill not in _LEARNED:
        return "", "another skill"
    if opinion is not None and opinion.correction:
        return opinion.correction, ""
    if opinion is not None and opinion.rating < 0:
        return "", "called bad and not corrected"
    return turn.reply_text, ""


def _row(number: int, conversation: str, user: str, messages: list[dict[str, Any]]) -> Row:
    values = {"id": pseudonym(f"{conversation} {user}"), "group": pseudonym(user), "messages": messages}
    return Row(DATABASE, number, values, str(number))


def pseudonym(identity: str) -> str:
    """Return what stands for a stored id in a dataset."""
    return hashlib.sha256(identity.encode()).hexdigest()[:16]
