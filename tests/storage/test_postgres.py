"""What PostgreSQL alone does: it outlives a process that sleeps with locks in its hands."""

import asyncio

import pytest

from storage.database import open_database
from storage.errors import DatabaseUnavailable
from storage.testing import drop_postgres, postgres_config
from storage.unit_of_work import UnitOfWork
from tests.storage.world import claim, say


async def test_a_process_that_sleeps_with_a_lock_is_cut_off(postgres_url: str) -> None:
    """Others get on after a lease, and the sleeper hears that nothing of its unit was written."""
    config = postgres_config(postgres_url, lease_s=0.3)
    sleeper, other = await open_database(config), await open_database(config)
    try:
        await say(sleeper, "1")
        held, has_lock = await claim(sleeper), asyncio.Event()
        overslept = asyncio.Event()

        async def sleep(unit: UnitOfWork) -> None:
            await unit.conversations.take(held.conversation.id, "sleeper")
            has_lock.set()
            await overslept.wait()
            await unit.conversations.get(held.conversation.id)

        asleep = asyncio.create_task(sleeper.write(sleep))
        await has_lock.wait()
        await other.write(lambda unit: unit.conversations.take(held.conversation.id, "awake"))
        overslept.set()
        with pytest.raises(DatabaseUnavailable):
            await asleep
        now = await other.read(lambda unit: unit.conversations.get(held.conversation.id))
        assert now.owner_epoch == held.conversation.owner_epoch + 1
    finally:
        await sleeper.close()
        await other.close()
        drop_postgres(postgres_url, config)
