"""In which steps a kill fell: read from the database and from the fake's transcript right after it.

One kill falls into as many steps as there were messages on different stretches of their way; none means that nothing was to do.
The tables are read with plain SQL: to open the database as the program does would already heal what the kill has left.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg

from bot.channels.telegram.fake_chats import Call
from bot.channels.telegram.render import render
from bot.channels.telegram.reply_stream import PLACEHOLDER

STEPS = (
    "starting",  # before the first contact
    "receiving",  # sent by a person, not stored
    "stored",  # not acknowledged
    "waiting",  # not claimed
    "generating",  # claimed
    "reserved",  # the row of the preview's placeholder exists, nothing on the screen
    "preview shown",  # the preview's placeholder is on the screen, nobody noted it
    "preview noted",
    "ready",  # the turn is committed
    "started",  # nothing of the answer on the screen
    "placeholder shown",  # the answer's placeholder is on the screen, nobody noted it
    "placeholder noted",  # the answer is not in it
    "answer shown",  # not marked as sent
    "postponed",  # refused or unknown, waits for another attempt
    "idle",
)

_INBOX = """SELECT c.chat, i.state FROM inbox i JOIN conversations c ON c.id = i.conversation_id WHERE i.state IN ('new', 'claimed')"""
_OUTBOX = """SELECT o.id, c.chat, o.state, o.attempts, o.placeholder_ref, o.text FROM outbox o
JOIN conversations c ON c.id = o.conversation_id WHERE o.state IN ('reserved', 'ready', 'started', 'unknown')"""
_CHUNKS = "SELECT outbox_id, ref FROM outbox_chunks"
_PLACEHOLDERS = "SELECT placeholder_ref FROM outbox WHERE placeholder_ref <> ''"
_ORPHANS = (
    "SELECT c.chat, sum(o.orphans) FROM outbox o JOIN conversations c ON c.id = o.conversation_id WHERE o.orphans > 0 GROUP BY c.chat"
)
_EVENTS = "SELECT count(*) FROM inbox"
_ASIDE = "SELECT count(*) FROM inbox WHERE state = 'quarantined'"


@dataclass(frozen=True)
class Row:
    """A row of the outbox that is not finished."""

    chat: int
    state: str
    attempts: int
    refs: tuple[str, ...]  # the messages that it is known to be in
    is_noted: bool  # the answer itself has a message
    text: str


@dataclass(frozen=True)
class Tables:
    """What a killed run has left in the database."""

    events: int = 0  # that were ever stored
    aside: int = 0  # that were handed out too often and are not answered any more
    waiting: tuple[tuple[int, str], ...] = ()  # chat and state of messages without an answer
    rows: tuple[Row, ...] = ()
    known: frozenset[str] = frozenset()  # every message id that anybody noted


def read_tables(url: str) -> Tables:
    """Read what the steps depend on."""
    statements = (_PLACEHOLDERS, _CHUNKS, _OUTBOX, _INBOX, _EVENTS, _ASIDE)
    placeholders, chunks, outbox, inbox, ((events,),), ((aside,),) = _query(url, *statements)
    rows = tuple(_row(row, chunks) for row in outbox)
    known = frozenset([ref for (ref,) in placeholders] + [ref for _, ref in chunks])
    return Tables(int(events), int(aside), tuple((_chat(chat), str(state)) for chat, state in inbox), rows, known)


def counted_orphans(url: str) -> dict[int, int]:
    """Return how many orphans the rows of each chat own up to."""
    return {_chat(chat): int(total) for chat, total in _query(url, _ORPHANS)[0]}


def has_contact(calls: Sequence[Call]) -> bool:
    """Whether the run that made these calls has begun to receive."""
    return any(call.method in {"deletewebhook", "setwebhook"} and call.code == 200 for call in calls)


def steps_of(tables: Tables, calls: Sequence[Call], *, said: int, pending: int) -> set[str]:
    """Return the steps that a kill fell into. `calls` are those of the killed run; `pending` updates were not acknowledged."""
    if not has_contact(calls):
        return {"starting"}
    steps = {_row_step(row, calls, tables.known) for row in tables.rows}
    reserved = {row.chat for row in tables.rows if row.state == "reserved"}
    steps |= {"waiting" if state == "new" else "generating" for chat, state in tables.waiting if chat not in reserved}
    if said > tables.events:
        steps.add("receiving")
    if pending > said - tables.events:
        steps.add("stored")
    return steps or {"idle"}


def _row_step(row: Row, calls: Sequence[Call], known: Collection[str]) -> str:
    match row.state:
        case "reserved":
            return "preview noted" if row.refs else "preview shown" if _has_unknown_placeholder(row, calls, known) else "reserved"
        case "ready":
            return "postponed" if row.attempts else "ready"
        case "unknown":
            return "postponed"
    if not row.is_noted:
        return "placeholder shown" if _has_unknown_placeholder(row, calls, known) else "started"
    return "answer shown" if _shows_answer(row, calls) else "placeholder noted"


def _has_unknown_placeholder(row: Row, calls: Sequence[Call], known: Collection[str]) -> bool:
    sent = [call for call in _accepted(calls, "sendmessage", row.chat) if call.params.get("text") == PLACEHOLDER]
    return any(str(call.message_id) not in known for call in sent)


def _shows_answer(row: Row, calls: Sequence[Call]) -> bool:
    last = render(row.text)[-1].text
    return any(
        str(call.message_id) == row.refs[-1] and call.params.get("text") == last for call in _accepted(calls, "editmessagetext", row.chat)
    )


def _accepted(calls: Sequence[Call], method: str, chat: int) -> Iterator[Call]:
    return (call for call in calls if call.method == method and call.chat == chat and call.code == 200)


def _row(row: Sequence[str], chunks: Sequence[Sequence[str]]) -> Row:
    row_id, chat, state, attempts, placeholder, text = row
    noted = tuple(ref for owner, ref in chunks if owner == row_id)
    return Row(_chat(chat), state, int(attempts), noted or ((placeholder,) if placeholder else ()), bool(noted), text)


def _chat(key: str) -> int:
    return int(key.partition("/")[0])


def _query(url: str, *statements: str) -> list[list[tuple[str, ...]]]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection:
            return [connection.execute(statement).fetchall() for statement in statements]
    with psycopg.connect(url) as connection:
        return [connection.execute(statement.encode()).fetchall() for statement in statements]
