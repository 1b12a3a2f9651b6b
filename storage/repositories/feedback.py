"""Feedback: one opinion of one user on one turn."""

from typing import Any

from sqlalchemy import Row, or_, select

from storage.errors import NotFound
from storage.ids import new_id
from storage.models import conversations, feedback, turns
from storage.records import FeedbackRecord
from storage.repositories.base import Repository


def feedback_record(row: Row[Any]) -> FeedbackRecord:
    """Return the frozen record of a row of `feedback`."""
    return FeedbackRecord(row.id, row.turn_id, row.user_id, row.rating, row.reason, row.correction, row.created_at)


class FeedbackRepository(Repository):
    """Rows of `feedback`."""

    async def rate(self, turn_id: str, user_id: str, rating: int, reason: str = "", correction: str = "") -> FeedbackRecord:
        """Store the opinion, in place of an earlier one of this user. `rating` is 1 or -1.

        In a private chat only the user of the turn may rate it; in a group everybody. Raises NotFound otherwise.
        """
        if rating not in {1, -1}:
            raise ValueError("a rating is 1 or -1")
        await self._check_access(turn_id, user_id)
        values = {"rating": rating, "reason": reason, "correction": correction, "created_at": await self._now()}
        statement = self._insert(feedback).values(id=new_id(), turn_id=turn_id, user_id=user_id, **values)
        statement = statement.on_conflict_do_update(index_elements=["turn_id", "user_id"], set_=values).returning(feedback)
        return feedback_record((await self._run(statement)).one())

    async def of(self, turn_id: str, user_id: str) -> FeedbackRecord | None:
        """Return the opinion of this user on this turn, or None."""
        found = await self._first(select(feedback).where(feedback.c.turn_id == turn_id, feedback.c.user_id == user_id))
        return None if found is None else feedback_record(found)

    async def on_turns_of(self, user_id: str) -> tuple[FeedbackRecord, ...]:
        """Return what anybody thinks of this user's turns, oldest first."""
        mine = select(turns.c.id).where(turns.c.user_id == user_id)
        found = await self._all(select(feedback).where(feedback.c.turn_id.in_(mine)).order_by(feedback.c.created_at, feedback.c.id))
        return tuple(feedback_record(row) for row in found)

    async def list(self, limit: int = 100, before: str | None = None, rating: int | None = None) -> tuple[FeedbackRecord, ...]:
        """Return the newest opinions of all users, newest first; with `before`, those with a smaller id. For the owner's reports."""
        statement = select(feedback).order_by(feedback.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(feedback.c.id < before)
        if rating is not None:
            statement = statement.where(feedback.c.rating == rating)
        return tuple(feedback_record(row) for row in await self._all(statement))

    async def _check_access(self, turn_id: str, user_id: str) -> None:
        statement = (
            select(turns.c.id)
            .join(conversations, conversations.c.id == turns.c.conversation_id)
            .where(turns.c.id == turn_id, or_(turns.c.user_id == user_id, conversations.c.is_private.is_(False)))
        )
        if await self._first(statement) is None:
            raise NotFound("no such turn for this user")
