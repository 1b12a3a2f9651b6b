"""One process polls an account at a time, and one that was replaced can store nothing more."""

import asyncio

import pytest

from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost
from storage.records import InboxState
from tests.storage.world import ACCOUNT, CHANNEL, item

LEASE_MS = 30_000


async def hold(database: Database, poller: str, account: str = ACCOUNT) -> int | None:
    """Try to get the lease."""
    return await database.write(lambda unit: unit.inbox.hold_poll(CHANNEL, account, poller, lease_ms=LEASE_MS))


async def accept(database: Database, poll_epoch: int | None, offset: int | None = None) -> int:
    """Accept one event as a poller."""
    return await database.write(lambda unit: unit.inbox.accept(CHANNEL, ACCOUNT, [item("1")], offset, poll_epoch=poll_epoch))


async def test_one_process_polls(database: Database) -> None:
    """Of several that try at once one gets the lease; other accounts are not concerned."""
    epochs = await asyncio.gather(*(hold(database, f"p{number}") for number in range(5)))
    assert sorted(epoch for epoch in epochs if epoch is not None) == [1]
    assert await hold(database, "other", "bot2") == 1


async def test_a_lease_is_renewed_by_its_holder(database: Database, clock: ManualClock) -> None:
    """A poller in touch keeps its epoch; one that is silent is replaced, and its epoch is old."""
    assert await hold(database, "first") == 1
    clock.advance(LEASE_MS - 1)
    assert await hold(database, "first") == 1
    clock.advance(LEASE_MS - 1)
    assert await hold(database, "second") is None
    clock.advance(1)
    assert await hold(database, "second") == 2
    assert await hold(database, "first") is None


@pytest.mark.parametrize("offset", [None, 9])
async def test_a_poller_that_was_replaced_stores_nothing(database: Database, clock: ManualClock, offset: int | None) -> None:
    """Neither events nor offset of an old poller are kept; those of the new one are."""
    assert await hold(database, "first") == 1
    clock.advance(LEASE_MS)
    await hold(database, "second")
    with pytest.raises(ClaimLost):
        await accept(database, 1, offset)
    assert await database.read(lambda unit: unit.inbox.list(InboxState.NEW)) == ()
    assert await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT)) is None
    assert await accept(database, 2, offset) == 1
    assert await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT)) == offset


async def test_an_epoch_that_was_never_given_is_refused(database: Database) -> None:
    """An account that nobody polls has no poller."""
    with pytest.raises(ClaimLost):
        await accept(database, 1)


async def test_a_released_lease_is_free(database: Database) -> None:
    """A poller that ends lets the next one begin at once; releasing what somebody else holds changes nothing."""
    await hold(database, "first")
    await database.write(lambda unit: unit.inbox.release_poll(CHANNEL, ACCOUNT, "second"))
    assert await hold(database, "second") is None
    await database.write(lambda unit: unit.inbox.release_poll(CHANNEL, ACCOUNT, "first"))
    assert await hold(database, "second") == 2


async def test_who_is_alone_frees_all_leases(database: Database) -> None:
    """The owner of a SQLite file does not wait for the lease of a dead process."""
    await hold(database, "dead")
    await database.write(lambda unit: unit.inbox.free_all_leases())
    assert await hold(database, "new") == 2


async def test_a_takeover_and_an_accept_never_both_win(database: Database, clock: ManualClock) -> None:
    """Whatever the race, an accept that succeeded came before the takeover of the lease."""
    for number in range(1, 11):
        epoch = await hold(database, f"p{number}")
        assert epoch == number
        clock.advance(LEASE_MS)
        taken, stored = await asyncio.gather(hold(database, f"p{number + 1}"), accept(database, epoch, number), return_exceptions=True)
        assert taken == number + 1
        offset = await database.read(lambda unit: unit.inbox.offset(CHANNEL, ACCOUNT))
        assert (offset == number) == (not isinstance(stored, ClaimLost))
