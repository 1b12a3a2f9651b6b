"""Where polling stands: the offset that was confirmed last, and which process may poll an account."""

from functools import cache
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Executable, bindparam, case, or_, select, update

from storage.errors import ClaimLost
from storage.models import channel_offsets
from storage.repositories.base import NewInsert, Repository

_HERE: Final = (channel_offsets.c.channel == bindparam("of_channel"), channel_offsets.c.account == bindparam("of_account"))
_OFFSET = select(channel_offsets.c.event_offset).where(*_HERE)
_LOCK_EPOCH = select(channel_offsets.c.poll_epoch).where(*_HERE).with_for_update()
_NOBODY = {"polled_by": "", "lease_until": None}
_RELEASE = update(channel_offsets).where(*_HERE, channel_offsets.c.polled_by == bindparam("poller")).values(_NOBODY)


class PollingRepository(Repository):
    """Rows of `channel_offsets`."""

    async def offset(self, channel: str, account: str) -> int | None:
        """Return the stored polling offset, or None before the first one."""
        return await self._scalar(_OFFSET, {"of_channel": channel, "of_account": account})

    async def hold_poll(self, channel: str, account: str, poller: str, *, lease_ms: int) -> int | None:
        """Let `poller` poll this account for `lease_ms`, again if it does already; return its epoch for `accept`.

        None while somebody else holds the lease. Whoever takes over raises the epoch, so that the one before can store nothing more.
        """
        now = await self._now()
        lease = {"channel": channel, "account": account, "polled_by": poller, "lease_until": now + lease_ms, "now": now}
        return await self._scalar(_hold(self._insert), lease)

    async def release_poll(self, channel: str, account: str, poller: str) -> None:
        """Let others poll; nothing happens if `poller` does not hold the lease."""
        await self._run(_RELEASE, {"of_channel": channel, "of_account": account, "poller": poller})

    async def _free_poll_leases(self) -> None:
        await self._run(update(channel_offsets).where(channel_offsets.c.lease_until.is_not(None)).values(_NOBODY))

    async def _check_poller(self, channel: str, account: str, poll_epoch: int) -> None:
        """Keep the lease from changing hands until the end of this unit. Raises ClaimLost when it has already."""
        if await self._scalar(_LOCK_EPOCH, {"of_channel": channel, "of_account": account}) != poll_epoch:
            raise ClaimLost("another process polls this account now")

    async def _store_offset(self, channel: str, account: str, offset: int) -> None:
        await self._run(_store(self._insert), {"channel": channel, "account": account, "event_offset": offset})


@cache
def _store(new: NewInsert) -> Executable:
    statement = new(channel_offsets)
    changes = {"event_offset": statement.excluded.event_offset}
    return statement.on_conflict_do_update(index_elements=["channel", "account"], set_=changes)


@cache
def _hold(new: NewInsert) -> Executable:
    c = channel_offsets.c
    statement = new(channel_offsets).values(poll_epoch=1)
    proposed = statement.excluded
    is_mine = c.polled_by == proposed.polled_by
    is_free: ColumnElement[bool] = or_(is_mine, c.lease_until.is_(None), c.lease_until <= bindparam("now", type_=BigInteger))
    changes = {
        "poll_epoch": case((is_mine, c.poll_epoch), else_=c.poll_epoch + 1),
        "polled_by": proposed.polled_by,
        "lease_until": proposed.lease_until,
    }
    return statement.on_conflict_do_update(index_elements=["channel", "account"], set_=changes, where=is_free).returning(c.poll_epoch)
