"""A unit of work happens as a whole or not at all, whoever waits for it."""

import asyncio
import re

import pytest
from sqlalchemy import text

from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.errors import DatabaseUnavailable, StorageError
from storage.testing import temporary_postgres
from storage.unit_of_work import UnitOfWork
from tests.storage.world import CHANNEL, accept, item, say


async def events(unit: UnitOfWork) -> set[str]:
    """Read which events are stored."""
    return {found.event_id for found in await unit.inbox.list(limit=1000)}


async def test_a_failing_unit_keeps_nothing_and_harms_nobody(database: Database) -> None:
    """Of units that run at once, those that fail leave nothing, the others everything."""

    async def work(unit: UnitOfWork, number: int) -> None:
        await unit.inbox.accept(CHANNEL, "a", [item(str(number), f"chat{number}")])
        if number % 3 == 0:
            raise ValueError(number)

    results = await asyncio.gather(
        *(database.write(lambda unit, number=number: work(unit, number)) for number in range(9)), return_exceptions=True
    )
    assert [isinstance(result, ValueError) for result in results] == [number % 3 == 0 for number in range(9)]
    assert await database.read(events) == {"1", "2", "4", "5", "7", "8"}


async def test_a_driver_error_spoils_only_its_unit(database: Database) -> None:
    """A statement that the database refuses is an error of this package, and others' units stand."""

    async def broken(unit: UnitOfWork) -> None:
        await unit.inbox.accept(CHANNEL, "a", [item("lost")])
        await unit._context.connection.execute(text("SELECT nonsense FROM nowhere"))

    good, bad = await asyncio.gather(say(database, "kept"), database.write(broken), return_exceptions=True)
    assert good == 1
    assert isinstance(bad, StorageError)
    assert await database.read(events) == {"kept"}


async def test_a_reader_cannot_write(database: Database) -> None:
    """Writing inside `read` is refused by the database itself."""
    with pytest.raises(StorageError):
        await database.read(lambda unit: unit.inbox.accept(CHANNEL, "a", [item("1")]))
    assert await database.read(events) == set()


async def test_a_reader_sees_one_state(database: Database) -> None:
    """What others commit while a read runs is not seen by it."""
    seen: list[set[str]] = []
    wrote, read_once = asyncio.Event(), asyncio.Event()

    async def work(unit: UnitOfWork) -> None:
        seen.append(await events(unit))
        read_once.set()
        await wrote.wait()
        seen.append(await events(unit))

    reading = asyncio.create_task(database.read(work))
    await read_once.wait()
    await say(database, "1")
    wrote.set()
    await reading
    assert seen == [set(), set()]


async def test_a_cancelled_caller_does_not_cut_the_work(database: Database) -> None:
    """A caller that goes away stops waiting; its unit ends properly and the connection serves the next one."""
    running, go_on = asyncio.Event(), asyncio.Event()

    async def work(unit: UnitOfWork) -> None:
        await unit.inbox.accept(CHANNEL, "a", [item("1")])
        running.set()
        await go_on.wait()

    caller = asyncio.create_task(database.write(work))
    await running.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await say(database, "2")
    await database.close()
    assert not database._running


async def test_a_unit_that_cancels_itself_harms_nobody(database: Database) -> None:
    """A CancelledError that comes out of the work is that unit's own."""

    async def work(unit: UnitOfWork) -> None:
        await unit.inbox.accept(CHANNEL, "a", [item("lost")])
        raise asyncio.CancelledError

    outcomes = await asyncio.gather(database.write(work), say(database, "kept"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, int]
    assert await database.read(events) == {"kept"}


async def test_random_cancellations_leave_no_connection_behind(database: Database) -> None:
    """Two hundred callers are cancelled at odd moments; afterwards everything still works."""
    tasks = [asyncio.create_task(say(database, str(number), chat=str(number % 7))) for number in range(100)]
    tasks += [asyncio.create_task(database.read(events)) for _ in range(100)]
    for turn in range(40):
        await asyncio.sleep(0)
        for task in tasks[turn::40]:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await say(database, "last") == 1
    assert "last" in await database.read(events)


async def test_a_unit_cannot_begin_another_one(database: Database) -> None:
    """A unit inside a unit would wait for itself; it is refused at once."""
    for outer in (database.read, database.write):
        for inner in (database.read, database.write):
            with pytest.raises(RuntimeError, match="another one"):
                await outer(lambda _unit, inner=inner: inner(events))


async def test_closing_waits_for_the_work(database: Database) -> None:
    """What was handed in before `close` is finished; what comes after it is refused; closing twice is fine."""
    pending = asyncio.create_task(say(database, "1"))
    await asyncio.sleep(0)
    await database.close()
    assert await pending == 1
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await say(database, "2")
    await database.close()


async def test_a_deadlock_is_run_again(postgres_url: str) -> None:
    """Two units that lock the same conversations in opposite order both succeed: PostgreSQL breaks one off, it runs again."""
    async with temporary_postgres(postgres_url) as database:
        await accept(database, item("a", "a"), item("b", "b"))
        first, second = [found.conversation_id for found in await database.read(lambda unit: unit.inbox.list())]
        both_hold_one, runs = asyncio.Barrier(2), 0

        async def work(unit: UnitOfWork, order: tuple[str, str]) -> None:
            nonlocal runs
            runs += 1
            await unit.conversations.set_skill(order[0], "chat")
            if runs <= 2:
                await both_hold_one.wait()
            await unit.conversations.set_skill(order[1], "chat")

        orders = ((first, second), (second, first))
        await asyncio.gather(*(database.write(lambda unit, order=order: work(unit, order)) for order in orders))
        assert runs == 3


async def test_a_lost_connection_is_an_error_of_this_package(postgres_url: str) -> None:
    """When PostgreSQL drops the connection the unit fails as unavailable, and the next one works."""
    async with temporary_postgres(postgres_url) as database:

        async def work(unit: UnitOfWork) -> None:
            await unit._context.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        with pytest.raises(DatabaseUnavailable):
            await database.write(work)
        assert await say(database, "1") == 1


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    """The error says what is wrong and never the password."""
    config = StorageConfig("postgresql://kefu:open-sesame@127.0.0.1:1/kefu")
    with pytest.raises(DatabaseUnavailable) as caught:
        await open_database(config)
    assert not re.search("open-sesame", str(caught.value))
