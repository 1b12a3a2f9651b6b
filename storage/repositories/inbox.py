"""The inbox: raw events are durable before they are acknowledged, and each gets its turn, in order.

    new ──claim──► claimed ──commit of a turn──► done
     ▲               │  └──handed out too often──► quarantined
     └──release / lease over──┘

One worker at a time has a conversation. Its claim carries an epoch; whoever claims next raises it, and from then on the
older worker can write nothing (`fence`). Other conversations are not touched by any of this.
"""

from collections.abc import Sequence
from functools import cache
from itertools import groupby, takewhile
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Executable, Row, and_, bindparam, delete, exists, func, or_, select, update

from storage.errors import ClaimLost, NotFound
from storage.ids import new_id
from storage.models import WAITING, channel_offsets, conversations, inbox
from storage.records import Claim, InboxKind, InboxRecord, InboxState, NewInboxItem
from storage.repositories.base import NewInsert
from storage.repositories.conversations import conversation_record
from storage.repositories.fence import HELD, FencedRepository, held

_IMPATIENCE = 5  # a burst that never ends is answered after this many quiet windows
_SKIPPED_AT_MOST = 64  # quarantined conversations that one claim passes by, so that a unit stays short
_EXPIRED_AT_ONCE = 1000
_DAY_MS = 86_400_000

STILL_PENDING: Final = {  # what `conversations` says about the items that wait; lock the conversation before
    name: select(extreme(inbox.c.received_at)).where(inbox.c.conversation_id == conversations.c.id, WAITING).scalar_subquery()
    for name, extreme in (("pending_since", func.min), ("pending_last", func.max))
}
_RECOUNT = update(conversations).where(conversations.c.id == bindparam("of")).values(STILL_PENDING)
_WAITING_ITEMS = select(inbox).where(inbox.c.conversation_id == bindparam("of"), WAITING).order_by(inbox.c.seq).limit(bindparam("most"))
_HAND_OUT = (
    update(inbox)
    .where(inbox.c.conversation_id == bindparam("of"), WAITING, inbox.c.seq <= bindparam("newest"))
    .values(state=InboxState.CLAIMED, attempts=inbox.c.attempts + 1)
    .returning(inbox)
)
_LEASE = (
    update(conversations)
    .where(conversations.c.id == bindparam("of"))
    .values(claim_epoch=conversations.c.claim_epoch + 1, claimed_by=bindparam("worker"), lease_until=bindparam("until"))
    .returning(conversations)
)
_RENEW = (
    update(conversations)
    .where(HELD, conversations.c.owner_epoch == bindparam("known_epoch"))
    .values(lease_until=bindparam("until"))
    .returning(
        exists().where(
            inbox.c.conversation_id == conversations.c.id,
            WAITING,
            inbox.c.kind == InboxKind.STOP,
            inbox.c.seq > bindparam("newest"),
        )
    )
)
_LOCK_HELD = select(conversations.c.id).where(HELD).with_for_update()
_GIVE_BACK = update(conversations).where(HELD).values(lease_until=None, claimed_by="")
_NEW_AGAIN = (
    update(inbox)
    .where(inbox.c.conversation_id == bindparam("of"), WAITING, inbox.c.state == InboxState.CLAIMED)
    .values(state=InboxState.NEW, attempts=inbox.c.attempts - bindparam("refunded"))
)


def inbox_record(row: Row[Any]) -> InboxRecord:
    """Return the frozen record of a row of `inbox`."""
    return InboxRecord(
        id=str(row.seq),
        channel=row.channel,
        account=row.account,
        event_id=row.event_id,
        conversation_id=row.conversation_id,
        raw=row.raw,
        kind=InboxKind(row.kind),
        state=InboxState(row.state),
        attempts=row.attempts,
        received_at=row.received_at,
        turn_id=row.turn_id,
        error=row.error,
    )


class InboxRepository(FencedRepository):
    """Rows of `inbox`, and what `conversations` knows about them."""

    async def accept(self, channel: str, account: str, items: Sequence[NewInboxItem], offset: int | None = None) -> int:
        """Store events as they came in, with the polling offset that confirms them. Return how many were new.

        Acknowledge to the platform only after the unit's commit. An event id that is already there changes nothing.
        """
        new = 0
        # In the order of chats, so that two accepting processes never wait for one another in a circle.
        for chat, group in groupby(sorted(items, key=lambda item: item.chat), key=lambda item: item.chat):
            new += await self._accept_chat(channel, account, chat, tuple(group))
        if offset is not None:
            await self._store_offset(channel, account, offset)
        return new

    async def offset(self, channel: str, account: str) -> int | None:
        """Return the stored polling offset, or None before the first one."""
        return await self._scalar(
            select(channel_offsets.c.event_offset).where(channel_offsets.c.channel == channel, channel_offsets.c.account == account)
        )

    async def claim(
        self, worker: str, *, channel: str | None = None, account: str | None = None, quiet_ms: int = 0, limit: int = 20
    ) -> Claim | None:
        """Give `worker` the conversation that waits longest and that nobody works on; None when there is none.

        A conversation is ready when its newest item is `quiet_ms` old, or its oldest five times that. Its oldest items, at most
        `limit`, are handed out. One that was handed out `max_attempts` times without an answer is quarantined instead, and on its
        last attempt it is handed out alone, so that a poisonous item takes no neighbour with it. `channel` and `account` leave out
        what this worker cannot answer.
        """
        now = await self._now()
        moment = {"now": now, "quiet": now - quiet_ms, "impatient": now - _IMPATIENCE * quiet_ms}
        place = {"of_channel": channel, "of_account": account}
        ready = _ready(of_channel=channel is not None, of_account=account is not None)
        for _ in range(_SKIPPED_AT_MOST):
            found = await self._first(ready, moment | place)
            if found is None:
                return None
            handed_out = await self._hand_out(found.id, limit)
            if handed_out:
                return await self._lease(found.id, worker, handed_out)
        return None

    async def renew(self, claim: Claim) -> bool:
        """Extend the lease. Return whether a STOP that came after the claimed items waits.

        Raises ClaimLost when another worker has the conversation, or when it changed hands between bot and person since the claim.
        """
        renewed = await self._first(
            _RENEW,
            {
                **held(claim),
                "known_epoch": claim.conversation.owner_epoch,
                "until": await self._lease_end(),
                "newest": max(int(item.id) for item in claim.items),
            },
        )
        if renewed is None:
            raise ClaimLost("another worker or a person has this conversation")
        return bool(renewed[0])

    async def release(self, claim: Claim, *, refund: bool = False) -> bool:
        """Give the conversation back; claimed items without an answer become new again. Return False, and do nothing, if it was lost.

        With `refund` the attempt does not count: nothing was tried, the worker only shuts down.
        """
        if await self._first(_LOCK_HELD, held(claim)) is None:
            return False
        await self._run(_NEW_AGAIN, {"of": claim.conversation.id, "refunded": int(refund)})
        await self._run(_GIVE_BACK, held(claim))
        return True

    async def free_all_leases(self) -> None:
        """Let every conversation be claimed at once. Only for a process that knows it is alone, such as the owner of a SQLite file."""
        leased = update(conversations).where(conversations.c.lease_until.is_not(None))
        await self._run(leased.values(lease_until=None, claimed_by=""))

    async def dismiss(self, claim: Claim, inbox_ids: Sequence[str]) -> None:
        """Claimed → done without a turn: there is nothing to answer in them. Raises ClaimLost."""
        await self._hold(claim)
        named = [int(inbox_id) for inbox_id in inbox_ids]
        own = inbox.c.conversation_id == claim.conversation.id
        await self._run(update(inbox).where(inbox.c.seq.in_(named), own, WAITING).values(state=InboxState.DONE))
        await self._recount(claim.conversation.id)

    async def quarantine(self, inbox_id: str, error: str) -> None:
        """Set a waiting item aside for people to look at; the conversation goes on without it. Raises NotFound if it does not wait."""
        row = await self._one(select(inbox.c.conversation_id).where(inbox.c.seq == int(inbox_id)), "no such inbox item")
        await self._run(select(conversations.c.id).where(conversations.c.id == row.conversation_id).with_for_update())
        if not await self._set_aside([int(inbox_id)], error):
            raise NotFound("this inbox item does not wait for an answer")
        await self._recount(row.conversation_id)

    async def pending(self, channel: str | None = None) -> int:
        """Return how many items wait for an answer."""
        statement = select(func.count()).select_from(inbox).where(WAITING)
        return await self._scalar(statement if channel is None else statement.where(inbox.c.channel == channel))

    async def oldest_pending_age_ms(self) -> int:
        """Return for how long the oldest waiting item has waited; 0 when nothing waits."""
        oldest = await self._scalar(select(func.min(conversations.c.pending_since)).where(conversations.c.pending_since.is_not(None)))
        return 0 if oldest is None else max(0, await self._now() - oldest)

    async def get(self, inbox_id: str) -> InboxRecord:
        """Return the item. Raises NotFound."""
        return inbox_record(await self._one(select(inbox).where(inbox.c.seq == int(inbox_id)), "no such inbox item"))

    async def list(self, state: InboxState | None = None, limit: int = 50) -> tuple[InboxRecord, ...]:
        """Return the newest items in this state, newest first. For operators."""
        statement = select(inbox).order_by(inbox.c.seq.desc()).limit(limit)
        if state is not None:
            statement = statement.where(_in_state(state))
        return tuple(inbox_record(row) for row in await self._all(statement))

    async def expire(self, days: int = 8) -> int:
        """Delete answered items older than `days`, some at once; no platform repeats their ids any more. Call again until it is 0."""
        before = await self._now() - days * _DAY_MS
        # The oldest by number: looking for them by time would read the whole table.
        oldest = select(inbox.c.seq).where(inbox.c.state == InboxState.DONE).order_by(inbox.c.seq).limit(_EXPIRED_AT_ONCE)
        return await self._changed(delete(inbox).where(inbox.c.seq.in_(oldest), inbox.c.received_at < before))

    async def _accept_chat(self, channel: str, account: str, chat: str, items: tuple[NewInboxItem, ...]) -> int:
        now = await self._now()
        is_private = all(item.is_private for item in items)
        chat_row = {"id": new_id(), "channel": channel, "account": account, "chat": chat, "is_private": is_private, "now": now}
        conversation_id = (await self._run(_open_chat(self._insert), chat_row)).scalar_one()
        shared = {"channel": channel, "account": account, "conversation_id": conversation_id, "received_at": now}
        rows = [{**shared, "event_id": item.event_id, "raw": item.raw, "kind": item.kind} for item in items]
        # RETURNING, because drivers do not count the rows of several parameter sets.
        stored = len((await self._run(_store_items(self._insert), rows if len(rows) > 1 else rows[0])).all())
        if stored != len(items):
            await self._recount(conversation_id)
        return stored

    async def _store_offset(self, channel: str, account: str, offset: int) -> None:
        statement = self._insert(channel_offsets).values(channel=channel, account=account, event_offset=offset)
        await self._run(statement.on_conflict_do_update(index_elements=["channel", "account"], set_={"event_offset": offset}))

    async def _hand_out(self, conversation_id: str, limit: int) -> tuple[InboxRecord, ...]:
        """Mark the oldest waiting items as claimed and return them; quarantine what was handed out too often."""
        items = [inbox_record(row) for row in await self._all(_WAITING_ITEMS, {"of": conversation_id, "most": limit})]
        most = self._context.config.max_attempts
        spent = [int(item.id) for item in items if item.attempts >= most]
        if spent:
            await self._set_aside(spent, f"handed out {most} times without an answer")
        chosen = _together([item for item in items if item.attempts < most], most)
        if spent or not chosen:
            await self._recount(conversation_id)
        if not chosen:
            return ()
        rows = await self._all(_HAND_OUT, {"of": conversation_id, "newest": int(chosen[-1].id)})
        return tuple(sorted((inbox_record(row) for row in rows), key=lambda item: int(item.id)))

    async def _lease(self, conversation_id: str, worker: str, items: tuple[InboxRecord, ...]) -> Claim:
        leased = {"of": conversation_id, "worker": worker, "until": await self._lease_end()}
        conversation = conversation_record((await self._run(_LEASE, leased)).one())
        return Claim(conversation, conversation.claim_epoch, worker, items)

    async def _lease_end(self) -> int:
        return await self._now() + round(self._context.config.lease_s * 1000)

    async def _set_aside(self, numbers: Sequence[int], error: str) -> int:
        values = {"state": InboxState.QUARANTINED, "error": error}
        return await self._changed(update(inbox).where(inbox.c.seq.in_(numbers), WAITING).values(**values))

    async def _recount(self, conversation_id: str) -> None:
        await self._run(_RECOUNT, {"of": conversation_id})


@cache
def _open_chat(new: NewInsert) -> Executable:
    """Return the INSERT that makes or locks a conversation, notes that something waits in it, and returns its id."""
    now = bindparam("now", type_=BigInteger)
    statement = new(conversations).values(pending_since=now, pending_last=now, created_at=now)
    c, proposed = conversations.c, statement.excluded
    changes = {
        "is_private": c.is_private & proposed.is_private,
        "pending_since": func.coalesce(c.pending_since, proposed.pending_since),
        "pending_last": proposed.pending_last,
    }
    return statement.on_conflict_do_update(index_elements=["channel", "account", "chat"], set_=changes).returning(c.id)


@cache
def _store_items(new: NewInsert) -> Executable:
    return new(inbox).values(state=InboxState.NEW).on_conflict_do_nothing().returning(inbox.c.seq)


@cache
def _ready(*, of_channel: bool, of_account: bool) -> Executable:
    """Return the SELECT of the conversation that waits longest among those that are free and quiet."""
    c = conversations.c
    quiet, impatient, now = bindparam("quiet"), bindparam("impatient"), bindparam("now")
    # The first condition follows from the third; as a range of the index it leaves out everything too young at once.
    statement = select(c.id).where(
        c.pending_since <= quiet,
        or_(c.lease_until.is_(None), c.lease_until <= now),
        or_(c.pending_last <= quiet, c.pending_since <= impatient),
    )
    if of_channel:
        statement = statement.where(c.channel == bindparam("of_channel"))
    if of_account:
        statement = statement.where(c.account == bindparam("of_account"))
    return statement.order_by(c.pending_since).limit(1).with_for_update(skip_locked=True)


def _together(items: list[InboxRecord], max_attempts: int) -> list[InboxRecord]:
    """Return the items at the head that may share a turn."""

    def has_more_attempts(item: InboxRecord) -> bool:
        return item.attempts == 0 or item.attempts + 1 < max_attempts

    return list(takewhile(has_more_attempts, items)) or items[:1]


def _in_state(state: InboxState) -> ColumnElement[bool]:
    # Written out, so that the partial indexes of the rare states are used.
    exactly = inbox.c.state == bindparam("state", state, literal_execute=True)
    return and_(exactly, WAITING) if state in {InboxState.NEW, InboxState.CLAIMED} else exactly
