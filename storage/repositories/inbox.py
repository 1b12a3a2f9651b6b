"""The inbox: raw events are durable before they are acknowledged, and each gets its turn, in order.

    new ──claim──► claimed ──commit of a turn──► done
     ▲               │  └──handed out too often──► quarantined
     └──release / lease over──┘

One worker at a time has a conversation. Its claim carries an epoch; whoever claims next raises it, and from then on the
older worker can write nothing (`fence`). Other conversations are not touched by any of this.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Executable, Row, Text, and_, bindparam, case, cast, delete, exists, func, or_, select, update

from storage.errors import ClaimLost, NotFound
from storage.models import QUARANTINED, WAITING, conversations, inbox
from storage.records import Claim, InboxKind, InboxRecord, InboxState
from storage.repositories.accepting import AcceptingRepository
from storage.repositories.fence import HELD, FencedRepository, held
from storage.repositories.handover import conversation_record

_IMPATIENCE = 5  # a burst that never ends is answered after this many quiet windows
_SKIPPED_AT_MOST = 64  # quarantined conversations that one claim passes by, so that a unit stays short
_EXPIRED_AT_ONCE = 1000
_DAY_MS = 86_400_000

_WAITING_ITEMS = select(inbox).where(inbox.c.conversation_id == bindparam("of"), WAITING).order_by(inbox.c.seq).limit(bindparam("most"))
_HAND_OUT = (
    update(inbox)
    .where(inbox.c.conversation_id == bindparam("of"), WAITING, inbox.c.seq <= bindparam("newest"))
    .values(state=InboxState.CLAIMED, attempts=inbox.c.attempts + case((inbox.c.seq == bindparam("oldest"), 1), else_=0))
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
            inbox.c.conversation_id == cast(conversations.c.id, Text),  # as a typed value, SQLite finds it by the index
            WAITING,
            inbox.c.kind == InboxKind.STOP,
            inbox.c.seq > bindparam("newest"),
            or_(conversations.c.is_private, inbox.c.sender == bindparam("asker")),
        )
    )
)
_GIVE_BACK = update(conversations).where(HELD).values(lease_until=None, claimed_by="").returning(conversations.c.pending_since)
_NEW_AGAIN = (
    update(inbox)
    .where(inbox.c.conversation_id == bindparam("of"), WAITING, inbox.c.state == InboxState.CLAIMED)
    .values(state=InboxState.NEW, attempts=inbox.c.attempts - case((inbox.c.seq == bindparam("oldest"), bindparam("refunded")), else_=0))
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


class InboxRepository(AcceptingRepository, FencedRepository):
    """Rows of `inbox`, and what `conversations` knows about them."""

    async def claim(
        self, worker: str, *, channel: str | None = None, account: str | None = None, quiet_ms: int = 0, limit: int = 20
    ) -> Claim | None:
        """Give `worker` the conversation that waits longest and that nobody works on; None when there is none.

        A conversation is ready when its newest item is `quiet_ms` old, or its oldest five times that. Its oldest items, at most
        `limit`, are handed out. The attempt counts for the oldest alone: it is the one that every turn begins with, and those behind
        it are not worn out by what happens to it. One that was handed out `max_attempts` times without an answer is quarantined
        instead, and on its last attempt it is handed out alone, so that a poisonous item takes no neighbour with it. `channel` and
        `account` leave out what this worker cannot answer.
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

    async def renew(self, claim: Claim, *, asker: str | None = None) -> bool:
        """Extend the lease. Return whether a STOP that came after the claimed items waits; in a group, one of `asker`, who is answered.

        Raises ClaimLost when another worker has the conversation, or when it changed hands between bot and person since the claim.
        """
        renewed = await self._first(
            _RENEW,
            {
                **held(claim),
                "known_epoch": claim.conversation.owner_epoch,
                "until": await self._lease_end(),
                "newest": max(int(item.id) for item in claim.items),
                "asker": asker,
            },
        )
        if renewed is None:
            raise ClaimLost("another worker or a person has this conversation")
        return bool(renewed[0])

    async def release(self, claim: Claim, *, refund: bool = False) -> bool:
        """Give the conversation back; claimed items without an answer become new again. Return False, and do nothing, if it was lost.

        With `refund` the attempt does not count: nothing was tried, the worker only shuts down.
        """
        given_back = await self._first(_GIVE_BACK, held(claim))
        if given_back is None:
            return False
        if given_back.pending_since is not None:
            oldest = int(claim.items[0].id)
            await self._run(_NEW_AGAIN, {"of": claim.conversation.id, "oldest": oldest, "refunded": int(refund)})
        return True

    async def free_all_leases(self) -> None:
        """Let every conversation be claimed, and every account polled, at once.

        Only for a process that knows it is alone, such as the owner of a SQLite file.
        """
        leased = update(conversations).where(conversations.c.lease_until.is_not(None))
        await self._run(leased.values(lease_until=None, claimed_by=""))
        await self._free_poll_leases()

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

    async def quarantined_count(self) -> int:
        """Return how many items were set aside."""
        return await self._scalar(select(func.count()).select_from(inbox).where(QUARANTINED))

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
        await self._context.take_time()
        before = await self._now() - days * _DAY_MS
        # The oldest by number: looking for them by time would read the whole table.
        oldest = select(inbox.c.seq).where(inbox.c.state == InboxState.DONE).order_by(inbox.c.seq).limit(_EXPIRED_AT_ONCE)
        return await self._changed(delete(inbox).where(inbox.c.seq.in_(oldest), inbox.c.received_at < before))

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
        await self._run(_HAND_OUT, {"of": conversation_id, "oldest": int(chosen[0].id), "newest": int(chosen[-1].id)})
        return tuple(replace(item, state=InboxState.CLAIMED, attempts=item.attempts + (number == 0)) for number, item in enumerate(chosen))

    async def _lease(self, conversation_id: str, worker: str, items: tuple[InboxRecord, ...]) -> Claim:
        leased = {"of": conversation_id, "worker": worker, "until": await self._lease_end()}
        conversation = conversation_record((await self._run(_LEASE, leased)).one())
        return Claim(conversation, conversation.claim_epoch, worker, items, await self._now())

    async def _lease_end(self) -> int:
        return await self._now() + round(self._context.config.lease_s * 1000)

    async def _set_aside(self, numbers: Sequence[int], error: str) -> int:
        values = {"state": InboxState.QUARANTINED, "error": error}
        return await self._changed(update(inbox).where(inbox.c.seq.in_(numbers), WAITING).values(**values))


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
