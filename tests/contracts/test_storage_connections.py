"""The connections of a database are counted, and work at any rate opens no more than the settings allow."""

import asyncio

from storage.config import StorageConfig
from storage.database import Database

POOL_SIZE = StorageConfig("sqlite://").pool_size


async def test_connections_are_counted_and_bounded(database: Database) -> None:
    """However many units run at once, the number stays within the pool, and is the same after the next ones."""
    counted: list[int] = []
    for _ in range(2):
        reads = [database.read(lambda unit: unit.inbox.pending()) for _ in range(50)]
        writes = [database.write(lambda unit: unit.users.ensure("fake", "bot", "ann")) for _ in range(10)]
        await asyncio.gather(*reads, *writes)
        counted.append(database.connections)
    assert 0 < counted[0] == counted[1] <= 2 * POOL_SIZE + 1
