"""Rows of the outbox as they are: what has to go out next, and what operators look at."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Executable, Row, TextClause, bindparam, case, exists, func, or_, select, text

from storage.errors import NotFound
from storage.models import ORPHANED, UNDELIVERED, UNSENT, conversations, outbox, outbox_chunks
from storage.records import OutboxRecord, OutboxState
from storage.repositories.base import Parameters, Repository

NEVER: Final = 2**53 - 1  # next_attempt_at of a row that no program tries again; exact in JSON too

_PARTS: Final = select(func.count()).where(outbox_chunks.c.outbox_id == outbox.c.id).correlate(outbox).scalar_subquery()
# How many orphans a row leaves that ends before its text was sent: one if a message of it is known, or if one was perhaps being sent.
LEFT_BEHIND: Final = case((or_(outbox.c.state == OutboxState.RESERVED, outbox.c.placeholder_ref != "", _PARTS > 0), 1), else_=0)


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
        extras=row.extras,
        orphans=row.orphans,
    )


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


_HEAD = (
    select(outbox)
    .where(outbox.c.conversation_id == bindparam("of"), UNDELIVERED, outbox.c.next_attempt_at < NEVER)
    .order_by(outbox.c.seq)
    .limit(1)
)
_OF_TURN = select(outbox).where(outbox.c.turn_id == bindparam("of_turn"))
_CHUNKS = (
    select(outbox_chunks.c.outbox_id, outbox_chunks.c.ref)
    .where(outbox_chunks.c.outbox_id.in_(bindparam("of", expanding=True)))
    .order_by(outbox_chunks.c.outbox_id, outbox_chunks.c.position)
)


class OutboxReading(Repository):
    """Reads `outbox` and `outbox_chunks`."""

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
        found = await self._with_chunks(_HEAD, {"of": conversation_id})
        return found[0] if found else None

    async def get(self, outbox_id: str) -> OutboxRecord:
        """Return the row with its chunks. Raises NotFound."""
        found = await self._with_chunks(select(outbox).where(outbox.c.id == outbox_id))
        if not found:
            raise NotFound("no such outbox row")
        return found[0]

    async def of_turn(self, turn_id: str) -> OutboxRecord | None:
        """Return the one row that carries the reply of this turn, or None."""
        found = await self._with_chunks(_OF_TURN, {"of_turn": turn_id})
        return found[0] if found else None

    async def of_desk(self, conversation_id: str, limit: int = 50) -> tuple[OutboxRecord, ...]:
        """Return the newest words of people in this conversation: the rows that no turn wrote, newest first."""
        said = select(outbox).where(outbox.c.conversation_id == conversation_id, outbox.c.turn_id.is_(None))
        return await self._with_chunks(said.order_by(outbox.c.seq.desc()).limit(limit))

    async def in_flight(self, conversation_id: str) -> OutboxRecord | None:
        """Return the row that is crossing the platform border in this conversation, or None."""
        lane = select(outbox).where(outbox.c.conversation_id == conversation_id, UNDELIVERED, outbox.c.state == OutboxState.STARTED)
        found = await self._with_chunks(lane.order_by(outbox.c.seq).limit(1))
        return found[0] if found else None

    async def counts(self) -> dict[OutboxState, int]:
        """Return how many rows are in each state. Sent ones are not counted: they only grow."""
        rows = await self._all(select(outbox.c.state, func.count().label("total")).where(UNSENT).group_by(outbox.c.state))
        return {OutboxState(row.state): row.total for row in rows}

    async def orphans(self) -> int:
        """Return how many placeholders may stand on screens without ever getting a text."""
        return int(await self._scalar(select(func.coalesce(func.sum(outbox.c.orphans), 0)).where(ORPHANED)))

    async def list(self, state: OutboxState | None = None, limit: int = 50, *, orphaned: bool = False) -> tuple[OutboxRecord, ...]:
        """Return the newest rows in this state, newest first; with `orphaned`, those with orphans only. For operators."""
        statement = select(outbox).order_by(outbox.c.seq.desc()).limit(limit)
        if orphaned:
            statement = statement.where(ORPHANED)
        if state is not None:
            statement = statement.where(outbox.c.state == bindparam("state", state, literal_execute=True))
        if state not in {None, OutboxState.SENT}:
            statement = statement.where(UNSENT)
        return await self._with_chunks(statement)

    async def _with_chunks(self, statement: Executable, parameters: Parameters = None) -> tuple[OutboxRecord, ...]:
        rows = await self._all(statement, parameters)
        chunks = await self._chunks([row.id for row in rows if row.attempts])  # before its first attempt a row has none
        return tuple(outbox_record(row, chunks.get(row.id, ())) for row in rows)

    async def _chunks(self, outbox_ids: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return the chunks of each row that has some."""
        chunks: dict[str, list[str]] = {}
        for row in await self._all(_CHUNKS, {"of": outbox_ids}) if outbox_ids else ():
            chunks.setdefault(row.outbox_id, []).append(row.ref)
        return {outbox_id: tuple(refs) for outbox_id, refs in chunks.items()}
