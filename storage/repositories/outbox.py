"""The outbox: what is to be said is durable before it is sent, and is sent in order.

    reserved ──commit──► ready ──start──► started ──► sent
                           ▲ ◄──retry──────┘ │  └───► failed
                           └─────────────┐   ▼
    reserved | ready ──► cancelled       └ unknown ──resume──► started

A `retry` or a `start` after a takeover ends in cancelled. An operator may drop what is not on its way, and have what failed tried again.

`start` is for a message that was surely never sent. Once a row was `started`, nobody may simply send it again: `resume` takes it over
for a call that is idempotent (the edit of a placeholder, or a platform that drops repeated ids), and everything else leaves it unknown.

A sender may be taken for dead and not be: it overslept its deadline, and somebody else resumed its row. So each `start` and `resume` has
a number, `OutboxRecord.attempts`, and a sender that gives its own as `attempt` is refused once there is a newer one. Without that, two
senders that are both at work would each note a placeholder of their own, and fill both.
"""

from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Executable, Integer, Row, Text, and_, bindparam, case, cast, literal_column, or_, select, update

from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.models import RESERVED, conversations, outbox, outbox_chunks
from storage.records import Claim, OutboxRecord, OutboxState, Owner
from storage.repositories.base import NewInsert
from storage.repositories.fence import FencedRepository
from storage.repositories.outbox_reading import LEFT_BEHIND, NEVER, OutboxReading, outbox_record

_UNDELIVERED = {OutboxState.READY, OutboxState.STARTED, OutboxState.UNKNOWN}
_OPEN_ENDED = {OutboxState.RESERVED, OutboxState.READY, OutboxState.UNKNOWN, OutboxState.FAILED}  # what an operator may drop

# A row that was reserved and names no placeholder: whoever reserved it may have died between sending one and writing it down.
NO_PLACEHOLDER_KNOWN: Final = case((outbox.c.placeholder_ref == "", 1), else_=0)


def _owner_unchanged() -> ColumnElement[bool]:
    # No EXISTS: PostgreSQL may answer that by hashing all conversations.
    hands_now = select(conversations.c.owner_epoch).where(conversations.c.id == outbox.c.conversation_id)
    return hands_now.correlate(outbox).scalar_subquery() == outbox.c.owner_epoch


_SILENT = or_(
    and_(outbox.c.state == OutboxState.STARTED, outbox.c.next_attempt_at <= bindparam("now")), outbox.c.state == OutboxState.UNKNOWN
)


def _begin(otherwise: OutboxState, allowed: ColumnElement[bool], **values: Any) -> Executable:
    """Return the UPDATE that makes a row `started`, or `otherwise` when the conversation changed hands."""
    mine = _owner_unchanged()
    changes = {
        "state": case((mine, OutboxState.STARTED), else_=otherwise),
        "attempts": case((mine, outbox.c.attempts + 1), else_=outbox.c.attempts),
        "next_attempt_at": case((mine, bindparam("deadline")), else_=values["next_attempt_at"]),
        "error": case((mine, outbox.c.error), else_="a person took over"),
        "orphans": outbox.c.orphans + case((mine, 0), else_=values["orphans"]),
    }
    return update(outbox).where(outbox.c.id == bindparam("which"), allowed).values(**changes).returning(outbox)


_IS_READY = outbox.c.state == OutboxState.READY
_START = _begin(OutboxState.CANCELLED, _IS_READY, next_attempt_at=outbox.c.next_attempt_at, orphans=LEFT_BEHIND)
_RESUME = _begin(OutboxState.UNKNOWN, _SILENT, next_attempt_at=NEVER, orphans=0)
# In RETURNING, SQLAlchemy leaves out the table's name, and SQLite uses an index for a column of the changed row only as a typed value.
_OF_ROW = cast(literal_column("outbox.conversation_id"), Text)
_HANDS_NOW = select(conversations.c.owner_epoch).where(conversations.c.id == _OF_ROW).scalar_subquery()
_IS_LATEST = or_(bindparam("attempt", type_=Integer).is_(None), outbox.c.attempts == bindparam("attempt", type_=Integer))
_EXTEND = (
    update(outbox)
    .where(outbox.c.id == bindparam("which"), outbox.c.state == OutboxState.STARTED, _IS_LATEST)
    .values(next_attempt_at=bindparam("deadline"))
    .returning(outbox.c.owner_epoch == _HANDS_NOW)
)
_SENT = (
    update(outbox)
    .where(outbox.c.id == bindparam("which"), outbox.c.state.in_([OutboxState.STARTED, OutboxState.UNKNOWN]), _IS_LATEST)
    .values(state=OutboxState.SENT, error="")
)
_WAITS_NO_LONGER = update(conversations).where(conversations.c.id == bindparam("of")).values(waiting_since=None)
_MOVE = update(outbox).where(outbox.c.id == bindparam("which"), outbox.c.state.in_(bindparam("allowed", expanding=True)), _IS_LATEST)
_UNBEGUN = outbox.c.state.in_([OutboxState.RESERVED, OutboxState.READY])
_DROP = (
    update(outbox)
    .where(outbox.c.id == bindparam("which"), outbox.c.state.in_(_OPEN_ENDED))
    .values(state=OutboxState.CANCELLED, orphans=outbox.c.orphans + case((_UNBEGUN, LEFT_BEHIND), else_=0), error="dropped by an operator")
)


class OutboxRepository(OutboxReading, FencedRepository):
    """Rows of `outbox` and `outbox_chunks`."""

    async def reserve(self, claim: Claim, turn_id: str, reply_to: str) -> OutboxRecord:
        """Return the row that `commit` of this turn will use; write it down before a placeholder is sent.

        A conversation has at most one: what an earlier worker reserved is taken over with its placeholder. If that worker noted none it
        may have sent one all the same, which counts as an orphan. Raises ClaimLost.
        """
        await self._hold_as_owner(claim, claim.conversation.owner_epoch)
        conversation_id, now = claim.conversation.id, await self._now()
        values = {"turn_id": turn_id, "reply_to": reply_to, "owner_epoch": claim.conversation.owner_epoch}
        reused = update(outbox).where(outbox.c.conversation_id == conversation_id, RESERVED).returning(outbox)
        row = await self._first(reused.values(**values, orphans=outbox.c.orphans + NO_PLACEHOLDER_KNOWN))
        if row is None:
            row = await self._first(new_row(self._insert, conversation_id, OutboxState.RESERVED, "", now, **values))
        if row is None:
            raise ClaimLost("this turn has its answer already")
        return outbox_record(row)

    async def set_placeholder(self, outbox_id: str, ref: str, *, turn_id: str) -> None:
        """Note the platform's id of the message that carries the previews of this turn.

        Raises NotFound when the row is gone, or is another turn's by now: `reserve` has then counted this message as an orphan.
        """
        its_own = update(outbox).where(outbox.c.id == outbox_id, outbox.c.turn_id == turn_id)
        if not await self._changed(its_own.values(placeholder_ref=ref)):
            raise NotFound("no such outbox row of this turn")

    async def add_orphan(self, outbox_id: str) -> None:
        """Note that one more placeholder may stand on the screen without ever getting a text. Raises NotFound."""
        if not await self._changed(update(outbox).where(outbox.c.id == outbox_id).values(orphans=outbox.c.orphans + 1)):
            raise NotFound("no such outbox row")

    async def enqueue(self, conversation_id: str, words: str, *, owner_epoch: int, reply_to: str = "", extras: str = "") -> OutboxRecord:
        """Queue what a person says through the desk: nobody waits for a person any more.

        Raises ClaimLost when the conversation changed hands since `owner_epoch`.
        """
        if (await self._hands(conversation_id)).owner_epoch != owner_epoch:
            raise ClaimLost("the conversation changed hands")
        await self._run(_WAITS_NO_LONGER, {"of": conversation_id})
        values = {"owner_epoch": owner_epoch, "reply_to": reply_to, "extras": extras}
        row = new_row(self._insert, conversation_id, OutboxState.READY, words, await self._now(), **values)
        return outbox_record((await self._run(row)).one())

    async def start(self, outbox_id: str, *, timeout_ms: int = 30_000) -> OutboxRecord | None:
        """Ready → started: call it, commit, then cross the platform border. After `timeout_ms` the sender counts as dead.

        Return None when the conversation changed hands meanwhile: the row is then cancelled. Raises ClaimLost when it is not `ready`.
        """
        return await self._begin(_START, outbox_id, timeout_ms)

    async def resume(self, outbox_id: str, *, timeout_ms: int = 30_000) -> OutboxRecord | None:
        """Started past its deadline, or unknown, → started: for a call that may be repeated without harm, and for no other.

        Return None when a person took over meanwhile: the row then stays unknown for good. Raises ClaimLost when it is in other hands.
        """
        return await self._begin(_RESUME, outbox_id, timeout_ms)

    async def add_chunk(self, outbox_id: str, index: int, ref: str, *, timeout_ms: int = 30_000, attempt: int | None = None) -> bool:
        """Note that part `index` is on the platform as `ref`, and extend the deadline. Noting it again changes nothing but `ref`.

        Return False when a person took over: the sender stops after this part. Raises ClaimLost when the row is not `started`.
        """
        extended = await self._first(_EXTEND, {"which": outbox_id, "deadline": await self._now() + timeout_ms, "attempt": attempt})
        if extended is None:
            raise ClaimLost("this message is not being sent, or by somebody else")
        await self._run(_put_chunk(self._insert), {"outbox_id": outbox_id, "position": index, "ref": ref})
        return bool(extended[0])

    async def sent(self, outbox_id: str, *, attempt: int | None = None) -> None:
        """Started | unknown → sent: the platform has all of it. Raises ClaimLost."""
        if not await self._changed(_SENT, {"which": outbox_id, "attempt": attempt}):
            raise ClaimLost("this message cannot become sent any more")

    async def unknown(self, outbox_id: str, error: str, *, retry_at: int | None = None, attempt: int | None = None) -> None:
        """Started → unknown: the platform may or may not have it.

        With `retry_at` (milliseconds) the row keeps its place and is due again then, for `resume`. Without, no program touches it any
        more, it holds up nothing, and operators see it. Raises ClaimLost.
        """
        at = NEVER if retry_at is None else retry_at
        changes = {"state": OutboxState.UNKNOWN, "next_attempt_at": at, "error": error}
        await self._move(outbox_id, {OutboxState.STARTED, OutboxState.UNKNOWN}, attempt, **changes)

    async def failed(self, outbox_id: str, error: str, *, attempt: int | None = None) -> None:
        """Ready | started | unknown → failed: the platform refused for good. Raises ClaimLost."""
        await self._move(outbox_id, _UNDELIVERED, attempt, state=OutboxState.FAILED, error=error)

    async def retry(self, outbox_id: str, at_ms: int, error: str, *, attempt: int | None = None) -> None:
        """Started → ready, not before `at_ms`: the platform surely has nothing of it beyond the noted chunks.

        If the conversation changed hands meanwhile it is cancelled instead. Raises ClaimLost.
        """
        mine = _owner_unchanged()
        again = case((mine, OutboxState.READY), else_=OutboxState.CANCELLED)
        orphans = outbox.c.orphans + case((mine, 0), else_=LEFT_BEHIND)
        values = {"state": again, "next_attempt_at": at_ms, "error": error, "orphans": orphans}
        started = update(outbox).where(outbox.c.id == outbox_id, outbox.c.state == OutboxState.STARTED, _IS_LATEST)
        if not await self._changed(started.values(**values), {"attempt": attempt}):
            raise ClaimLost("this message is not being sent, or by somebody else")

    async def cancel(self, outbox_id: str, reason: str = "") -> None:
        """Reserved | ready → cancelled. Raises ClaimLost when it has gone further."""
        await self._move(outbox_id, {OutboxState.RESERVED, OutboxState.READY}, None, state=OutboxState.CANCELLED, error=reason)

    async def retry_by_operator(self, outbox_id: str) -> OutboxRecord:
        """Unknown | failed → due now, at its old place: `failed` becomes `ready`, `unknown` stays so and `resume` decides.

        Raises NotFound; ClaimLost when the row is in another state, or the bot's while a person has the conversation.
        """
        row, hands = await self._row_and_hands(outbox_id)
        if row.state not in {OutboxState.UNKNOWN, OutboxState.FAILED}:
            raise ClaimLost(f"this message is {row.state.value}; only unknown and failed ones can be tried again")
        if row.turn_id is not None and hands.owner != Owner.BOT:
            raise ClaimLost("a person has this conversation; give it back to the bot first, or say it yourself")
        again = OutboxState.READY if row.state is OutboxState.FAILED else OutboxState.UNKNOWN
        changes = {"state": again, "next_attempt_at": await self._now(), "owner_epoch": hands.owner_epoch}
        await self._move(outbox_id, {row.state}, None, **changes)
        return await self.get(outbox_id)

    async def drop(self, outbox_id: str) -> OutboxRecord:
        """Reserved | ready | unknown | failed → cancelled: nothing tries it any more. A placeholder without its text counts as an orphan.

        Raises NotFound and ClaimLost.
        """
        row, _ = await self._row_and_hands(outbox_id)
        if row.state not in _OPEN_ENDED:
            raise ClaimLost(f"this message is {row.state.value}; there is nothing to drop")
        if not await self._changed(_DROP, {"which": outbox_id}):
            raise ClaimLost("this message is on its way now")
        return await self.get(outbox_id)

    async def _row_and_hands(self, outbox_id: str) -> tuple[OutboxRecord, Row[Any]]:
        """Lock the conversation, and return the row as it is then with who has the conversation."""
        hands = await self._hands((await self.get(outbox_id)).conversation_id)
        return await self.get(outbox_id), hands

    async def _hands(self, conversation_id: str) -> Row[Any]:
        """Lock the conversation; return its owner and epoch. Raises NotFound."""
        c = conversations.c
        return await self._one(select(c.owner, c.owner_epoch).where(c.id == conversation_id).with_for_update(), "no such conversation")

    async def _begin(self, statement: Executable, outbox_id: str, timeout_ms: int) -> OutboxRecord | None:
        now = await self._now()
        row = await self._first(statement, {"which": outbox_id, "now": now, "deadline": now + timeout_ms})
        if row is None:
            raise ClaimLost("this message is in other hands")
        if row.state != OutboxState.STARTED:
            return None
        chunks = await self._chunks([outbox_id]) if row.attempts > 1 else {}  # before its first attempt a row has none
        return outbox_record(row, chunks.get(outbox_id, ()))

    async def _move(self, outbox_id: str, allowed: set[OutboxState], attempt: int | None, **values: Any) -> None:
        if not await self._changed(_MOVE, {"which": outbox_id, "allowed": sorted(allowed), "attempt": attempt, **values}):
            raise ClaimLost(f"this message cannot become {values['state']} any more")


@cache
def _put_chunk(new: NewInsert) -> Executable:
    statement = new(outbox_chunks)
    return statement.on_conflict_do_update(index_elements=["outbox_id", "position"], set_={"ref": statement.excluded.ref})


def new_row(new: NewInsert, conversation_id: str, state: OutboxState, words: str, now: int, **values: Any) -> Executable:
    """Return the INSERT of a row. One of the same turn that was cancelled meanwhile, by an operator for example, comes back to life."""
    fresh = {"conversation_id": conversation_id, "state": state, "text": words, "next_attempt_at": now, **values}
    statement = new(outbox).values(id=new_id(), created_at=now, **fresh)
    was_cancelled = outbox.c.state == OutboxState.CANCELLED
    return statement.on_conflict_do_update(index_elements=["turn_id"], set_=fresh, where=was_cancelled).returning(outbox)
