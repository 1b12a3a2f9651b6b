"""What `Database` needs from SQLite and from PostgreSQL."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from storage.unit_of_work import UnitOfWork

T = TypeVar("T")
Work = Callable[[UnitOfWork], Awaitable[T]]
Dialect = Literal["sqlite", "postgresql"]


class Backend(Protocol):
    """Runs units of work. Driver errors leave it as they are; `Database` translates them."""

    @property
    def dialect(self) -> Dialect:
        """Which kind of database this is."""
        ...

    @property
    def connections(self) -> int:
        """How many connections are open."""
        ...

    async def read(self, work: Work[T]) -> T:
        """Run `work` in a transaction that sees one state and can write nothing."""
        ...

    async def write(self, work: Work[T]) -> T:
        """Run `work` and return after COMMIT. If it raises, nothing of it is kept."""
        ...

    async def scrub(self) -> None:
        """Remove the bytes of deleted rows from the files, as far as the database can."""
        ...

    async def close(self) -> None:
        """Dispose of every connection. Nothing may run any more."""
        ...
