"""What the repositories of one unit of work share: the connection, the time, the settings."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import one_trip
from storage.clock import Clock
from storage.config import StorageConfig
from storage.errors import NotFound

Insert = postgresql.Insert | sqlite.Insert
NewInsert = Callable[[Table], Insert]
Parameters = Sequence[dict[str, Any]] | dict[str, Any] | None


class Context:
    """One transaction. Reads the clock once, so that everything in it happens at one time."""

    def __init__(self, connection: AsyncConnection, config: StorageConfig, clock: Clock, quick: Connection | None = None) -> None:
        self.connection = connection
        self._quick = quick  # the same connection for short statements, where there is one
        self.config = config
        self._clock = clock
        self._now: int | None = None

    @property
    def is_postgres(self) -> bool:
        """Whether rows are locked one by one; SQLite has one writer at a time."""
        return self.connection.dialect.name == "postgresql"

    async def take_time(self) -> None:
        """Let nothing else wait for the statements that follow in this unit: some may read or write many rows."""
        self._quick = None
        if not self.is_postgres:
            (await one_trip.driver_of(self.connection)).is_quick = False

    async def execute(self, statement: Executable, parameters: Parameters) -> CursorResult[Any]:
        """Run a statement of this unit."""
        if self._quick is not None:
            return self._quick.execute(statement, parameters)
        return await self.connection.execute(statement, parameters)

    async def now(self) -> int:
        """Return the time of this unit in milliseconds."""
        if self._now is None:
            self._now = await self._clock.now_ms(self.connection)
        return self._now


class Repository:
    """Base of the repositories: short names for running statements.

    The statements of every message are built once, with named parameters: building one takes longer than running it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def _now(self) -> int:
        return await self._context.now()

    async def _run(self, statement: Executable, parameters: Parameters = None) -> CursorResult[Any]:
        return await self._context.execute(statement, parameters)

    async def _first(self, statement: Executable, parameters: Parameters = None) -> Row[Any] | None:
        return (await self._run(statement, parameters)).first()

    async def _one(self, statement: Executable, missing: str) -> Row[Any]:
        row = await self._first(statement)
        if row is None:
            raise NotFound(missing)
        return row

    async def _all(self, statement: Executable, parameters: Parameters = None) -> Sequence[Row[Any]]:
        return (await self._run(statement, parameters)).all()

    async def _scalar(self, statement: Executable, parameters: Parameters = None) -> Any:
        return (await self._run(statement, parameters)).scalar()

    async def _changed(self, statement: Executable, parameters: Parameters = None) -> int:
        return (await self._run(statement, parameters)).rowcount

    @property
    def _insert(self) -> NewInsert:
        """An INSERT that understands ON CONFLICT, which SQLAlchemy spells for each dialect apart."""
        return postgresql.insert if self._context.is_postgres else sqlite.insert
