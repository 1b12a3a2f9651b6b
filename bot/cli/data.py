"""How commands reach the data: through the Kefu that is running on it, or by opening the database themselves."""

import asyncio
from functools import partial
from typing import Any

from bot.adapter_folders import adapter_folders
from bot.adapter_operations import adapter_operations
from bot.control import ControlUnavailable, call
from bot.data_operations import data_operations
from bot.errors import CliError, ExitCode
from bot.model_files import cached_model
from bot.settings import Settings
from storage.database import open_database

PING_S = 5.0


def operate(settings: Settings, operation: str, /, **arguments: Any) -> Any:
    """Run one data operation and return its JSON result. Raises what the operation raises, and DatabaseBusy."""
    return asyncio.run(_operate(settings, operation, arguments))


async def _operate(settings: Settings, operation: str, arguments: dict[str, Any]) -> Any:
    try:
        return await call(settings.control_socket, operation, max_bytes=settings.limits.control_bytes, **arguments)
    except ControlUnavailable:
        return await _operate_here(settings, operation, arguments)


async def _operate_here(settings: Settings, operation: str, arguments: dict[str, Any]) -> Any:
    database = await open_database(settings.storage_config(), owner=f"kefu {operation.replace('.', ' ')}")
    try:
        adapters = adapter_operations(database, adapter_folders(settings, partial(cached_model, settings)))
        return await {**data_operations(database, settings.storage_config()), **adapters}[operation](arguments)
    finally:
        await database.close()


def refuse_beside_running(settings: Settings) -> None:
    """Raise CliError if a Kefu of this machine serves the database: on PostgreSQL no lock would say so."""
    try:
        asyncio.run(call(settings.control_socket, "ping", timeout_s=PING_S))
    except ControlUnavailable:
        return
    raise CliError(
        f"A Kefu is running on this database: it listens on {settings.control_socket}.", hint="Stop it first.", code=ExitCode.TEMPORARY
    )
