"""How fast the store is, and whether it stays so as it fills: `kefu bench storage`.

Each database is filled in bulk to each size, in the order in which turns arrive in life (all conversations grow together), and
single turns are measured on top. A turn is three units of work: accept, claim, commit with release.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.ids import new_id
from storage.records import NewInboxItem, NewTurn, TurnStatus
from storage.unit_of_work import UnitOfWork
from storage.url import SqliteTarget, parse_url

Report = Callable[[str], None]

TURNS_EACH: Final = 50  # turns of one conversation
_QUESTION: Final = "My parcel should have come on Tuesday and the tracking page has not changed since. " * 2
_ANSWER: Final = "I am sorry about the wait. Parcels to your area take two days longer this week; yours will come tomorrow. " * 4
_ADDRESS: Final = ("bench", "fill")

# The same statements on both databases; `n` numbers the turns of one stage in the order of their arrival, `c` their conversations.
_ROWS: Final = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :turns - 1)"
_FILL: Final = (
    "INSERT INTO users (id, created_at) {rows} SELECT 'u' || :stage || '-' || n, 0 FROM numbers WHERE n < :conversations",
    "INSERT INTO conversations (id, channel, account, chat, is_private, turns, created_at) {rows} "
    "SELECT 'c' || :stage || '-' || n, 'bench', 'fill', :stage || '-' || n, TRUE, :each, 0 FROM numbers WHERE n < :conversations",
    "INSERT INTO turns (conversation_id, seq, id, user_id, skill, status, user_text, reply_text, in_history, created_at) {rows} "
    "SELECT 'c' || {c}, n / :conversations + 1, 't' || :stage || '-' || n, 'u' || {c}, 'chat', 'answered', :question, :answer, TRUE, n "
    "FROM numbers",
    "INSERT INTO inbox (channel, account, event_id, conversation_id, raw, kind, state, received_at, turn_id) {rows} "
    "SELECT 'bench', 'fill', :stage || '-' || n, 'c' || {c}, :raw, 'message', 'done', n, 't' || :stage || '-' || n FROM numbers",
    "INSERT INTO outbox (id, conversation_id, turn_id, state, text, next_attempt_at, created_at) {rows} "
    "SELECT 'o' || :stage || '-' || n, 'c' || {c}, 't' || :stage || '-' || n, 'sent', :answer, n, n FROM numbers",
)


async def run_bench(
    databases: Mapping[str, StorageConfig], sizes: Sequence[int], *, samples: int, seed: int, report: Report
) -> dict[str, Any]:
    """Measure each database at each size; return rates in turns per second and times in milliseconds.

    The databases must be migrated and empty. `report` gets a line for people before each step that takes a while.
    """
    results: dict[str, Any] = {name: {} for name in databases}
    filled = 0
    for size in sizes:
        for name, config in databases.items():
            report(f"{name}: filling to {size:,} turns …")
            began = time.perf_counter()
            await asyncio.to_thread(_fill, config, size - filled, f"{size}")
            fill_s = time.perf_counter() - began
            report(f"{name}: measuring on {size:,} turns …")
            results[name][str(size)] = {"fill_s": round(fill_s, 1)} | await _measure(config, size - filled, str(size), samples, seed)
        filled = size
    return results


def _fill(config: StorageConfig, turns: int, stage: str) -> None:
    """Add whole conversations in bulk, in one transaction."""
    target = parse_url(config.url)
    url = f"sqlite:///{target.path}" if isinstance(target, SqliteTarget) else target.url
    engine = create_engine(url, poolclass=NullPool)
    values = {
        "turns": turns,
        "conversations": max(1, turns // TURNS_EACH),
        "each": TURNS_EACH,
        "stage": stage,
        "question": _QUESTION,
        "answer": _ANSWER,
        "raw": _QUESTION.encode(),
    }
    try:
        with engine.begin() as connection:
            _execute_all(connection, values)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # What PostgreSQL would otherwise do in the background, in the middle of what is measured.
            connection.execute(text("ANALYZE" if isinstance(target, SqliteTarget) else "VACUUM ANALYZE"))
    finally:
        engine.dispose()


def _execute_all(connection: Connection, values: Mapping[str, Any]) -> None:
    for template in _FILL:
        statement = template.format(rows=_ROWS, c=":stage || '-' || (n % :conversations)")
        connection.execute(text(statement), {name: value for name, value in values.items() if f":{name}" in statement})


async def _measure(config: StorageConfig, turns: int, stage: str, samples: int, seed: int) -> dict[str, Any]:
    database = await open_database(config, owner="kefu bench storage")
    chance = random.Random(seed)  # noqa: S311 - picks what is measured
    conversations = [f"c{stage}-{chance.randrange(max(1, turns // TURNS_EACH))}" for _ in range(samples)]
    try:
        await _turns(database, 20, 1, f"{stage}-warm")  # connections, caches and statements come to life
        alone = await _turns(database, samples, 1, f"{stage}-alone")
        grouped = await _turns(database, samples * 4, 64, f"{stage}-grouped")
        windows = [await _timed(lambda chosen=chosen: _load_window(database, chosen)) for chosen in conversations]
        claims = await _claims(database, samples, stage)
    finally:
        await database.close()
    return {
        "turns_per_s_alone": round(alone, 1),
        "turns_per_s_grouped": round(grouped, 1),
        "window_ms": _spread(windows),
        "claim_ms": _spread(claims),
    }


async def _turns(database: Database, count: int, at_once: int, label: str) -> float:
    """Let `count` messages come in and be answered, `at_once` conversations side by side; return turns per second."""

    async def lane(number: int) -> None:
        for message in range(number, count, at_once):
            await _accept(database, f"{label}-{number}", f"{label}-{message}")
            await _answer_one(database)

    began = time.perf_counter()
    await asyncio.gather(*(lane(number) for number in range(at_once)))
    return count / (time.perf_counter() - began)


async def _claims(database: Database, count: int, stage: str) -> list[float]:
    """Time claims while `count` conversations wait, and answer them."""
    for number in range(count):
        await _accept(database, f"{stage}-waiting-{number}", f"{stage}-waiting-{number}")
    times = []
    for _ in range(count):
        began = time.perf_counter()
        claim = await database.write(lambda unit: unit.inbox.claim("bench"))
        times.append((time.perf_counter() - began) * 1000)
        if claim is None:
            raise RuntimeError("a conversation that waits was not claimed")
        await database.write(lambda unit, claim=claim: _commit(unit, claim))
    return times


async def _accept(database: Database, chat: str, event_id: str) -> None:
    item = NewInboxItem(event_id=event_id, chat=chat, raw=_QUESTION.encode())
    await database.write(lambda unit: unit.inbox.accept(*_ADDRESS, [item]))


async def _answer_one(database: Database) -> None:
    claim = await database.write(lambda unit: unit.inbox.claim("bench"))
    if claim is not None:  # otherwise a lane beside this one was quicker
        await database.write(lambda unit: _commit(unit, claim))


async def _commit(unit: UnitOfWork, claim: Any) -> None:
    user = await unit.users.ensure(*_ADDRESS, claim.conversation.chat)
    ids = tuple(item.id for item in claim.items)
    turn = NewTurn(new_id(), user.id, "chat", TurnStatus.ANSWERED, _QUESTION, _ANSWER, ids, document=b"\x00" * 1500)
    await unit.turns.commit(claim, turn, reply=_ANSWER, owner_epoch=claim.conversation.owner_epoch)
    await unit.inbox.release(claim)


async def _load_window(database: Database, conversation_id: str) -> None:
    turns = await database.read(lambda unit: unit.turns.window(conversation_id, limit=TURNS_EACH))
    if len(turns) != TURNS_EACH:
        raise RuntimeError(f"a window of {TURNS_EACH} turns was expected, {len(turns)} came")


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


def _spread(times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}
