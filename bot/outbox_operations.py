"""What the operator may do with messages that did not go out well, as operations of the control socket."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from bot.arguments import Arguments, number, optional, text
from bot.desk_operations import ACTOR
from bot.errors import CliError, ExitCode
from storage.database import Database
from storage.errors import ClaimLost, NotFound
from storage.records import OutboxRecord, OutboxState
from storage.unit_of_work import UnitOfWork


def outbox_operations(database: Database) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
    """Return the operations by name."""
    operations = OutboxOperations(database)
    return {"outbox.list": operations.list, "outbox.retry": operations.retry, "outbox.drop": operations.drop}


class OutboxOperations:
    """Each method takes the arguments of one operation and returns a JSON value. All raise StorageError and CliError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, arguments: Arguments) -> Any:
        """Return the newest rows: `limit`, `state`, `orphaned` (only those that may have left a placeholder), `text` (with their words)."""
        limit, state, orphaned = number(arguments, "limit", 50), _state(arguments), bool(arguments.get("orphaned"))
        with_text = bool(arguments.get("text"))

        async def look(unit: UnitOfWork) -> dict[str, Any]:
            rows = await unit.outbox.list(state, limit, orphaned=orphaned)
            return {"now": await unit.now(), "rows": [_plain(row, with_text=with_text) for row in rows]}

        return await self._database.read(look)

    async def retry(self, arguments: Arguments) -> Any:
        """Let a row that is unknown or failed be due again."""
        return await self._change(text(arguments, "id"), "outbox.retry", lambda unit, row: unit.outbox.retry_by_operator(row))

    async def drop(self, arguments: Arguments) -> Any:
        """Give a row up that was not delivered."""
        return await self._change(text(arguments, "id"), "outbox.drop", lambda unit, row: unit.outbox.drop(row))

    async def _change(self, outbox_id: str, action: str, change: Callable[[UnitOfWork, str], Awaitable[OutboxRecord]]) -> Any:
        async def do(unit: UnitOfWork) -> dict[str, Any]:
            row = await change(unit, outbox_id)
            await unit.audit.append(ACTOR, action, outbox_id, "")
            return _plain(row)

        try:
            return await self._database.write(do)
        except NotFound:
            raise CliError(f"There is no message {outbox_id}.", hint="`kefu outbox list` gives the ids.") from None
        except ClaimLost as error:
            raise CliError(f"{str(error)[:1].upper()}{str(error)[1:]}.", hint="`kefu outbox list` shows where it is now.") from None


def _plain(row: OutboxRecord, *, with_text: bool = False) -> dict[str, Any]:
    """Return the row as JSON; what was said in it, only when asked for: many long rows would not fit into an answer."""
    values = asdict(row) | {"chunks": list(row.chunks)}
    return {name: value for name, value in values.items() if with_text or name != "text"}


def _state(arguments: Arguments) -> OutboxState | None:
    name = optional(arguments, "state")
    try:
        return None if name is None else OutboxState(name)
    except ValueError:
        raise CliError(f"There is no state {name!r}; there are: {', '.join(OutboxState)}.", code=ExitCode.USAGE) from None
