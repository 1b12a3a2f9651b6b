"""The outbox: what is to be said is durable before it is sent, and is sent in order.

    reserved ──commit──► ready ──start──► started ──► sent
                           ▲ ◄──retry──────┘ │  └───► failed
                           └─────────────┐   ▼
    reserved | ready ──► cancelled       └ unknown ──resume──► started

A `retry` after a takeover ends in cancelled.

`start` is for a message that was surely never sent. Once a row was `started`, nobody may simply send it again: `resume` takes it over
for a call that is idempotent (the edit of a placeholder, or a platform that drops repeated ids), and everything else leaves it unknown.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Executable, Row, TextClause, and_, bindparam, case, exists, func, insert, or_, select, text, update

from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.models import RESERVED, UNDELIVERED, UNSENT, conversations, outbox, outbox_chunks
from storage.records import Claim, OutboxRecord, OutboxState
from storage.repositories.base import Parameters
from storage.repositories.fence import FencedRepository

NEVER: Final = 2**53 - 1  # next_attempt_at of a row that no program tries again; exact in JSON too
_UNDELIVERED = {OutboxState.READY, OutboxState.STARTED, OutboxState.UNKNOWN}


def outbox_record(row: Row[Any], chunks: Sequence[str] = ()) -> OutboxRecord:
    """Return the frozen record of a row of `outbox` and its chunks."""
    return OutboxRecord(
        id=row.id,
        conversation_id=row.conversation_id,
        turn_id=row.turn_id,
        state=OutboxState(row.state),
        text=row.text,
        reply_to=row.reply_to,
        placeholder_ref=row.placeholder_ref,
        chunks=tuple(chunks),
        owner_epoch=row.owner_epoch,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        error=row.error,
        created_at=row.created_at,
    )


def _owner_unchanged() -> ColumnElement[bool]:
    return exists().where(conversations.c.id == outbox.c.conversation_id, conversations.c.owner_epoch == outbox.c.owner_epoch)


def _undelivered(table_name: str) -> TextClause:
    # Spelled with the table's name where two of them stand in one statement.
    return text(f"{table_name}.{UNDELIVERED.text}")


@cache
def _due(*, of_channel: bool, of_account: bool) -> Executable:
    older = outbox.alias("older")
    blocked = exists().where(
        older.c.conversation_id == outbox.c.conversation_id,
        older.c.seq < outbox.c.seq,
        older.c.next_attempt_at < NEVER,
        _undelivered("older"),
    )
    statement = select(outbox).where(_undelivered("outbox"), outbox.c.next_attempt_at <= bindparam("now"), ~blocked)
    if of_channel or of_account:
        statement = statement.join(conversations, conversations.c.id == outbox.c.conversation_id)
    if of_channel:
        statement = statement.where(conversations.c.channel == bindparam("of_channel"))
    if of_account:
        statement = statement.where(conversations.c.account == bindparam("of_account"))
    return statement.order_by(outbox.c.next_attempt_at, outbox.c.seq).limit(bindparam("most"))


_SILENT = or_(
    and_(outbox.c.state == OutboxState.STARTED, outbox.c.next_attempt_at <= bindparam("now")), outbox.c.state == OutboxState.UNKNOWN
)
_BEGIN = (
    update(outbox)
    .where(outbox.c.id == bindparam("which"), _owner_unchanged())
    .values(state=OutboxState.STARTED, attempts=outbox.c.attempts + 1, next_attempt_at=bindparam("deadline"))
    .returning(outbox)
)
_START = _BEGIN.where(outbox.c.state == OutboxState.READY)
_RESUME = _BEGIN.where(_SILENT)
_MOVE = update(outbox).where(outbox.c.id == bindparam("which"), outbox.c.state.in_(bindparam("allowed", expanding=True)))
_CHUNKS = select(outbox_chunks.c.ref).where(outbox_chunks.c.outbox_id == bindparam("which")).order_by(outbox_chunks.c.position)


class OutboxRepository(FencedRepository):
    """Rows of `outbox` and `outbox_chunks`."""

    async def reserve(self, claim: Claim, turn_id: str, reply_to: str) -> OutboxRecord:
        """Return the row that `commit` of this turn will use; write it down before a placeholder is sent.

        A conversation has at most one: what an earlier worker reserved is taken over with its placeholder. Raises ClaimLost.
        """
        await self._hold_as_owner(claim, claim.conversation.owner_epoch)
        conversation_id, now = claim.conversation.id, await self._now()
        values = {"turn_id": turn_id, "reply_to": reply_to, "owner_epoch": claim.conversation.owner_epoch}
        reused = update(outbox).where(outbox.c.conversation_id == conversation_id, RESERVED).values(**values).returning(outbox)
        row = await self._first(reused)
        if row is None:
            row = (await self._run(_new_row(conversation_id, OutboxState.RESERVED, "", now, **values))).one()
        return outbox_record(row)

    async def set_placeholder(self, outbox_id: str, ref: str) -> None:
        """Note the platform's id of the message that carries the previews. Raises NotFound."""
        if not await self._changed(update(outbox).where(outbox.c.id == outbox_id).values(placeholder_ref=ref)):
            raise NotFound("no such outbox row")

    async def enqueue(self, conversation_id: str, words: str, *, owner_epoch: int, reply_to: str = "") -> OutboxRecord:
        """Queue what a person says through the desk. Raises ClaimLost when the conversation changed hands since `owner_epoch`."""
        held = select(conversations.c.owner_epoch).where(conversations.c.id == conversation_id).with_for_update()
        if (await self._one(held, "no such conversation")).owner_epoch != owner_epoch:
            raise ClaimLost("the conversation changed hands")
        values = {"owner_epoch": owner_epoch, "reply_to": reply_to}
        return outbox_record((await self._run(_new_row(conversation_id, OutboxState.READY, words, await self._now(), **values))).one())

    async def due(self, channel: str | None = None, limit: int = 50, *, account: str | None = None) -> tuple[OutboxRecord, ...]:
        """Return what may be sent or resolved now: the oldest undelivered row of each conversation, if its time has come.

        `channel` and `account` leave out what only other processes can deliver.
        `ready` rows are for `start`; `started` ones, whose sender was silent past its deadline, and `unknown` ones for `resume`.
        """
        place = {"of_channel": channel, "of_account": account}
        statement = _due(of_channel=channel is not None, of_account=account is not None)
        return await self._with_chunks(statement, {"now": await self._now(), "most": limit, **place})

    async def head(self, conversation_id: str) -> OutboxRecord | None:
        """Return the row that has to go out next in this conversation, due or not; None when nothing waits."""
        waits = (outbox.c.conversation_id == conversation_id, UNDELIVERED, outbox.c.next_attempt_at < NEVER)
        found = await self._with_chunks(select(outbox).where(*waits).order_by(outbox.c.seq).limit(1))
        return found[0] if found else None

    async def start(self, outbox_id: str, *, timeout_ms: int = 30_000) -> OutboxRecord:
        """Ready → started: call it, commit, then cross the platform border. After `timeout_ms` the sender counts as dead.

        Raises ClaimLost when the row is not `ready` or the conversation changed hands.
        """
        return await self._begin(_START, outbox_id, timeout_ms)

    async def resume(self, outbox_id: str, *, timeout_ms: int = 30_000) -> OutboxRecord | None:
        """Started past its deadline, or unknown, → started: for a call that may be repeated without harm, and for no other.

        Return None when a person took over meanwhile: the row then stays unknown for good. Raises ClaimLost when it is in other hands.
        """
        taken_over = update(outbox).where(outbox.c.id == outbox_id, _SILENT, ~_owner_unchanged())
        parked = {"state": OutboxState.UNKNOWN, "next_attempt_at": NEVER, "error": "a person took over"}
        if await self._changed(taken_over.values(**parked), {"now": await self._now()}):
            return None
        return await self._begin(_RESUME, outbox_id, timeout_ms)

    async def add_chunk(self, outbox_id: str, index: int, ref: str, *, timeout_ms: int = 30_000) -> bool:
        """Note that part `index` is on the platform as `ref`, and extend the deadline. Noting it again changes nothing but `ref`.

        Return False when a person took over: the sender stops after this part. Raises ClaimLost when the row is not `started`.
        """
        deadline = await self._now() + timeout_ms
        extended = update(outbox).where(outbox.c.id == outbox_id, outbox.c.state == OutboxState.STARTED).values(next_attempt_at=deadline)
        if not await self._changed(extended):
            raise ClaimLost("this message is not being sent")
        statement = self._insert(outbox_chunks).values(outbox_id=outbox_id, position=index, ref=ref)
        await self._run(statement.on_conflict_do_update(index_elements=["outbox_id", "position"], set_={"ref": ref}))
        return bool(await self._scalar(select(exists().where(outbox.c.id == outbox_id, _owner_unchanged()))))

    async def sent(self, outbox_id: str) -> None:
        """Started | unknown → sent: the platform has all of it. Raises ClaimLost."""
        await self._move(outbox_id, {OutboxState.STARTED, OutboxState.UNKNOWN}, state=OutboxState.SENT, error="")

    async def unknown(self, outbox_id: str, error: str, *, retry_at: int | None = None) -> None:
        """Started → unknown: the platform may or may not have it.

        With `retry_at` (milliseconds) the row keeps its place and is due again then, for `resume`. Without, no program touches it any
        more, it holds up nothing, and operators see it. Raises ClaimLost.
        """
        at = NEVER if retry_at is None else retry_at
        await self._move(outbox_id, {OutboxState.STARTED, OutboxState.UNKNOWN}, state=OutboxState.UNKNOWN, next_attempt_at=at, error=error)

    async def failed(self, outbox_id: str, error: str) -> None:
        """Ready | started | unknown → failed: the platform refused for good. Raises ClaimLost."""
        await self._move(outbox_id, _UNDELIVERED, state=OutboxState.FAILED, error=error)

    async def retry(self, outbox_id: str, at_ms: int, error: str) -> None:
        """Started → ready, not before `at_ms`: the platform surely has nothing of it beyond the noted chunks.

        If the conversation changed hands meanwhile it is cancelled instead. Raises ClaimLost.
        """
        again = case((_owner_unchanged(), OutboxState.READY), else_=OutboxState.CANCELLED)
        values = {"state": again, "next_attempt_at": at_ms, "error": error}
        started = update(outbox).where(outbox.c.id == outbox_id, outbox.c.state == OutboxState.STARTED)
        if not await self._changed(started.values(**values)):
            raise ClaimLost("this message is not being sent")

    async def cancel(self, outbox_id: str, reason: str = "") -> None:
        """Reserved | ready → cancelled. Raises ClaimLost when it has gone further."""
        await self._move(outbox_id, {OutboxState.RESERVED, OutboxState.READY}, state=OutboxState.CANCELLED, error=reason)

    async def get(self, outbox_id: str) -> OutboxRecord:
        """Return the row with its chunks. Raises NotFound."""
        found = await self._with_chunks(select(outbox).where(outbox.c.id == outbox_id))
        if not found:
            raise NotFound("no such outbox row")
        return found[0]

    async def of_turn(self, turn_id: str) -> OutboxRecord | None:
        """Return the one row that carries the reply of this turn, or None."""
        found = await self._with_chunks(select(outbox).where(outbox.c.turn_id == turn_id))
        return found[0] if found else None

    async def in_flight(self, conversation_id: str) -> OutboxRecord | None:
        """Return the row that is crossing the platform border in this conversation, or None."""
        lane = select(outbox).where(outbox.c.conversation_id == conversation_id, UNDELIVERED, outbox.c.state == OutboxState.STARTED)
        found = await self._with_chunks(lane.order_by(outbox.c.seq).limit(1))
        return found[0] if found else None

    async def counts(self) -> dict[OutboxState, int]:
        """Return how many rows are in each state. Sent ones are not counted: they only grow."""
        rows = await self._all(select(outbox.c.state, func.count().label("total")).where(UNSENT).group_by(outbox.c.state))
        return {OutboxState(row.state): row.total for row in rows}

    async def list(self, state: OutboxState | None = None, limit: int = 50) -> tuple[OutboxRecord, ...]:
        """Return the newest rows in this state, newest first. For operators."""
        statement = select(outbox).order_by(outbox.c.seq.desc()).limit(limit)
        if state is not None:
            statement = statement.where(outbox.c.state == bindparam("state", state, literal_execute=True))
        if state not in {None, OutboxState.SENT}:
            statement = statement.where(UNSENT)
        return await self._with_chunks(statement)

    async def _begin(self, statement: Executable, outbox_id: str, timeout_ms: int) -> OutboxRecord:
        now = await self._now()
        row = await self._first(statement, {"which": outbox_id, "now": now, "deadline": now + timeout_ms})
        if row is None:
            raise ClaimLost("this message is in other hands, or the conversation is")
        return outbox_record(row, await self._chunks(outbox_id))

    async def _move(self, outbox_id: str, allowed: set[OutboxState], **values: Any) -> None:
        if not await self._changed(_MOVE, {"which": outbox_id, "allowed": sorted(allowed), **values}):
            raise ClaimLost(f"this message cannot become {values['state']} any more")

    async def _with_chunks(self, statement: Executable, parameters: Parameters = None) -> tuple[OutboxRecord, ...]:
        return tuple([outbox_record(row, await self._chunks(row.id)) for row in await self._all(statement, parameters)])

    async def _chunks(self, outbox_id: str) -> tuple[str, ...]:
        return tuple(row.ref for row in await self._all(_CHUNKS, {"which": outbox_id}))


def _new_row(conversation_id: str, state: OutboxState, words: str, now: int, **values: Any) -> Any:
    row = insert(outbox).values(id=new_id(), conversation_id=conversation_id, state=state, text=words, next_attempt_at=now, created_at=now)
    return row.values(**values).returning(outbox)
