"""How many connections a pool holds: an operator who watches the number sees one that is never given back."""

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool


def open_connections(*engines: AsyncEngine) -> int:
    """Return how many connections are open, in use or not."""
    pools = [engine.pool for engine in engines]
    return sum(pool.checkedin() + pool.checkedout() for pool in pools if isinstance(pool, QueuePool))
