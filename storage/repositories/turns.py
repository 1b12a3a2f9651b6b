"""Turns: what was said, side by side for each conversation. `commit` is the one place where an answer comes to be."""

from functools import cache
from typing import Any

from sqlalchemy import Executable, Row, bindparam, case, delete, func, insert, select, update

from storage.errors import ClaimLost, NotFound, StorageError
from storage.ids import new_id
from storage.models import RESERVED, WAITING, conversations, inbox, outbox, turn_documents, turns
from storage.records import Claim, InboxState, NewTurn, OutboxRecord, OutboxState, Owner, TurnRecord, TurnStatus, Usage
from storage.repositories.base import NewInsert
from storage.repositories.fence import FencedRepository
from storage.repositories.outbox import NO_PLACEHOLDER_KNOWN, OutboxRepository
from storage.repositories.outbox_reading import LEFT_BEHIND, outbox_record
from storage.repositories.pending import STILL_PENDING

_DAY_MS = 86_400_000
_EXPIRED_AT_ONCE = 1000

_STORED = select(turns).where(turns.c.id == bindparam("turn_id"))
_INSERT_DOCUMENT = insert(turn_documents)
_ANSWER_UP_TO = (
    update(inbox)
    .where(inbox.c.conversation_id == bindparam("of"), WAITING, inbox.c.seq <= bindparam("newest"))
    .values(state=InboxState.DONE, turn_id=bindparam("answered_by"))
    .returning(inbox.c.seq)
)
_CHANGE = update(conversations).where(conversations.c.id == bindparam("of")).values(STILL_PENDING)
_USE_RESERVED = (
    update(outbox)
    .where(outbox.c.conversation_id == bindparam("of"), RESERVED)
    .values(orphans=outbox.c.orphans + NO_PLACEHOLDER_KNOWN)
    .returning(outbox)
)
_END_RESERVED = (
    update(outbox)
    .where(outbox.c.conversation_id == bindparam("of"), RESERVED)
    .values(state=OutboxState.CANCELLED, orphans=outbox.c.orphans + LEFT_BEHIND, error="nothing is to be said")
)
_WINDOW = (
    select(turns)
    .where(turns.c.conversation_id == bindparam("of"), turns.c.seq > bindparam("after"), turns.c.in_history)
    .order_by(turns.c.seq.desc())
    .limit(bindparam("most"))
)
_USED = select(
    func.count().label("turns"), func.coalesce(func.sum(turns.c.prompt_tokens + turns.c.completion_tokens), 0).label("tokens")
).where(turns.c.user_id == bindparam("of_user"), turns.c.created_at >= bindparam("since"), turns.c.user_text != "")


def turn_record(row: Row[Any]) -> TurnRecord:
    """Return the frozen record of a row of `turns`."""
    return TurnRecord(
        id=row.id,
        conversation_id=row.conversation_id,
        seq=row.seq,
        user_id=row.user_id,
        skill=row.skill,
        status=TurnStatus(row.status),
        user_text=row.user_text,
        reply_text=row.reply_text,
        engine=row.engine,
        adapter=row.adapter,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        created_at=row.created_at,
    )


class TurnRepository(FencedRepository):
    """Rows of `turns` and `turn_documents`."""

    async def commit(
        self, claim: Claim, turn: NewTurn, *, reply: str | None, reply_to: str = "", owner_epoch: int
    ) -> tuple[TurnRecord, OutboxRecord | None]:
        """Make the turn, its reply and its answered items durable together, and return turn and outbox row.

        Committing a turn id again returns what is stored. `reply` is None when nothing is to be said; that is the only possibility
        while a person has the conversation. The reply takes over the row that was reserved, with its placeholder.
        Raises ClaimLost when another worker claimed the conversation, when it changed hands since `owner_epoch`, or when one of the
        items does not wait any more; StorageError when an older item would be passed over. In all cases nothing was written.
        """
        try:
            held = await self._hold_to_say(reply, claim, owner_epoch)
        except ClaimLost as lost:
            return await self._stored(turn.id, lost)
        committed = await self._insert_turn(held, turn)
        if committed is None:
            return await self._stored(turn.id, ClaimLost("this turn exists already"))
        await self._answer_items(held.id, turn)
        await self._run(_CHANGE, {"of": held.id, **_changes(held, turn), **await self._waiting(held, turn)})
        return committed, await self._put_reply(held, turn, reply, reply_to)

    async def window(self, conversation_id: str, *, after_seq: int = 0, limit: int = 100) -> tuple[TurnRecord, ...]:
        """Return the newest `limit` turns with seq > `after_seq` that may stand in prompts, oldest first."""
        rows = await self._all(_WINDOW, {"of": conversation_id, "after": after_seq, "most": limit})
        return tuple(turn_record(row) for row in reversed(rows))

    async def list(self, conversation_id: str, *, limit: int = 50, before: int | None = None) -> tuple[TurnRecord, ...]:
        """Return the newest turns of all kinds, newest first; with `before`, those with a smaller seq."""
        statement = select(turns).where(turns.c.conversation_id == conversation_id).order_by(turns.c.seq.desc()).limit(limit)
        if before is not None:
            statement = statement.where(turns.c.seq < before)
        return tuple(turn_record(row) for row in await self._all(statement))

    async def get(self, turn_id: str) -> TurnRecord:
        """Return the turn. For operators and replay, who know the id. Raises NotFound."""
        found = await self._first(_STORED, {"turn_id": turn_id})
        if found is None:
            raise NotFound("no such turn")
        return turn_record(found)

    async def usage(self, user_id: str, *, since: int) -> Usage:
        """Return what this user has used since that time (milliseconds): turns with words of theirs, and the tokens of these."""
        used = (await self._run(_USED, {"of_user": user_id, "since": since})).one()
        return Usage(used.turns, int(used.tokens))

    async def answered(self, user_id: str) -> tuple[TurnRecord, ...]:
        """Return every answered turn of this user that may stand in prompts, by conversation, oldest first. For training data."""
        await self._context.take_time()
        mine = (turns.c.user_id == user_id, turns.c.in_history, turns.c.status == TurnStatus.ANSWERED)
        return tuple(turn_record(row) for row in await self._all(select(turns).where(*mine).order_by(turns.c.conversation_id, turns.c.seq)))

    async def document(self, turn_id: str) -> bytes | None:
        """Return the document of the turn; None when it has none any more."""
        return await self._scalar(select(turn_documents.c.document).where(turn_documents.c.turn_id == turn_id))

    async def expire_documents(self) -> int:
        """Delete documents past their time, some at once. Return how many; call again until it is 0."""
        await self._context.take_time()
        expired = select(turn_documents.c.turn_id).where(turn_documents.c.expires_at <= await self._now()).limit(_EXPIRED_AT_ONCE)
        return await self._changed(delete(turn_documents).where(turn_documents.c.turn_id.in_(expired)))

    async def _hold_to_say(self, reply: str | None, claim: Claim, owner_epoch: int) -> Row[Any]:
        held = await self._hold_as_owner(claim, owner_epoch)
        if held.owner != Owner.BOT and reply is not None:
            raise ClaimLost("a person has this conversation")
        return held

    async def _stored(self, turn_id: str, lost: ClaimLost) -> tuple[TurnRecord, OutboxRecord | None]:
        """Return what was committed before. Raises `lost` when nothing was."""
        stored = await self._first(_STORED, {"turn_id": turn_id})
        if stored is None:
            raise lost
        return turn_record(stored), await OutboxRepository(self._context).of_turn(turn_id)

    async def _waiting(self, held: Row[Any], turn: NewTurn) -> dict[str, int]:
        """Return the change by which somebody waits for the person who has the conversation, until that person speaks."""
        is_unanswered = held.owner == Owner.HUMAN and turn.user_text and held.waiting_since is None
        return {"waiting_since": await self._now()} if is_unanswered else {}

    async def _insert_turn(self, held: Row[Any], turn: NewTurn) -> TurnRecord | None:
        """Store the turn; None when its id is taken."""
        now = await self._now()
        values = {
            "conversation_id": held.id,
            "seq": held.turns + 1,
            "id": turn.id,
            "user_id": turn.user_id,
            "skill": turn.skill,
            "status": turn.status,
            "user_text": turn.user_text,
            "reply_text": turn.reply_text,
            "engine": turn.engine,
            "adapter": turn.adapter,
            "prompt_tokens": turn.prompt_tokens,
            "completion_tokens": turn.completion_tokens,
            "in_history": turn.in_history,
            "created_at": now,
        }
        row = await self._first(_insert_once(self._insert), values)
        if row is not None and turn.document:
            expires_at = now + self._context.config.document_days * _DAY_MS
            await self._run(_INSERT_DOCUMENT, {"turn_id": turn.id, "document": turn.document, "expires_at": expires_at})
        return None if row is None else turn_record(row)

    async def _answer_items(self, conversation_id: str, turn: NewTurn) -> None:
        """Mark the items as done; they must be the oldest that wait."""
        if not turn.inbox_ids:
            return
        named = {int(inbox_id) for inbox_id in turn.inbox_ids}
        done = {"of": conversation_id, "newest": max(named), "answered_by": turn.id}
        answered = {row.seq for row in await self._all(_ANSWER_UP_TO, done)}
        if named - answered:
            raise ClaimLost("an item of this turn does not wait for an answer any more")
        if answered - named:
            raise StorageError("an older item of this conversation waits for its answer first")

    async def _put_reply(self, held: Row[Any], turn: NewTurn, reply: str | None, reply_to: str) -> OutboxRecord | None:
        if reply is None:
            if held.has_reserved:
                await self._run(_END_RESERVED, {"of": held.id})
            return None
        now = await self._now()
        values = {
            "turn_id": turn.id,
            "state": OutboxState.READY,
            "text": reply,
            "owner_epoch": held.owner_epoch,
            "next_attempt_at": now,
            "extras": turn.extras,
        }
        if reply_to:
            values["reply_to"] = reply_to
        row = await self._first(_USE_RESERVED, {"of": held.id, **values}) if held.has_reserved else None
        if row is None:
            fresh = {"id": new_id(), "conversation_id": held.id, "created_at": now, **values}
            row = (await self._run(_insert_reply(self._insert), fresh)).one()
        return outbox_record(row)


@cache
def _insert_once(new: NewInsert) -> Executable:
    return new(turns).on_conflict_do_nothing(index_elements=["id"]).returning(turns)


@cache
def _insert_reply(new: NewInsert) -> Executable:
    """Return the INSERT of a reply. A row that was reserved for this turn and cancelled by an operator comes back to life.

    So does one that is still reserved: on PostgreSQL, what was committed while the lock was waited for is not in `has_reserved`.
    """
    statement = new(outbox)
    given = ("conversation_id", "state", "text", "owner_epoch", "next_attempt_at", "extras")
    fresh: dict[str, Any] = {name: statement.excluded[name] for name in given}
    fresh["reply_to"] = case((statement.excluded.reply_to == "", outbox.c.reply_to), else_=statement.excluded.reply_to)
    orphans = outbox.c.orphans + case((outbox.c.state == OutboxState.RESERVED, NO_PLACEHOLDER_KNOWN), else_=0)
    unsaid = outbox.c.state.in_([OutboxState.CANCELLED, OutboxState.RESERVED])
    return statement.on_conflict_do_update(index_elements=["turn_id"], set_={**fresh, "orphans": orphans}, where=unsaid).returning(outbox)


def _changes(held: Row[Any], turn: NewTurn) -> dict[str, Any]:
    """Return what the turn changes in its conversation."""
    given = {"window_start": turn.window_start, "summary": turn.summary, "skill": turn.sticky_skill}
    values = {"turns": held.turns + 1, **{name: value for name, value in given.items() if value is not None}}
    return {**values, "user_id": turn.user_id} if held.is_private else values
