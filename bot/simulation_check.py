"""What became of every message of a crowd: the database says what was meant, the screens what was shown."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bot.channels.telegram.fake_crowd import Said
from bot.channels.telegram.fake_people import People
from bot.channels.telegram.reply_stream import PLACEHOLDER
from storage.database import Database
from storage.records import InboxRecord, InboxState, OutboxRecord, OutboxState

EVERYTHING: Final = 1_000_000  # more rows than a simulation makes

Place = tuple[int, int]  # chat and message id


class Fate(StrEnum):
    ANSWERED = "answered"
    WAITING = "waiting"  # stored, or still at the platform: the next start goes on with it
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict about a run."""

    fates: Mapping[Fate, int]
    twice: int  # answers of the bot on a screen that no row of the outbox owns
    rows: Mapping[OutboxState, int]  # those that are not sent

    @property
    def is_clean(self) -> bool:
        return not self.fates.get(Fate.LOST) and not self.twice


@dataclass(frozen=True, slots=True)
class _Stored:
    items: Mapping[Place, Sequence[InboxRecord]]
    rows: Mapping[str, OutboxRecord]  # by turn
    chats: Mapping[str, int]  # conversation id → chat


async def examine(database: Database, telegram: People, said: Iterable[Said]) -> Outcome:
    """Compare what was written with what is stored and shown. Raises StorageError."""
    stored = await _read(database)
    fates = Counter(_fate(one, stored, telegram) for one in said if one.needs_answer)
    unsent = await database.read(lambda unit: unit.outbox.counts())
    return Outcome(fates, _shown_twice(stored, telegram), unsent)


async def _read(database: Database) -> _Stored:
    items = await database.read(lambda unit: unit.inbox.list(None, EVERYTHING))
    rows = await database.read(lambda unit: unit.outbox.list(None, EVERYTHING))
    by_place: defaultdict[Place, list[InboxRecord]] = defaultdict(list)
    chats: dict[str, int] = {}
    for item in items:
        message = _message_of(item)
        if message is not None:
            by_place[message].append(item)
            chats[item.conversation_id] = message[0]
    return _Stored(by_place, {row.turn_id: row for row in rows if row.turn_id is not None}, chats)


def _message_of(item: InboxRecord) -> Place | None:
    update = json.loads(item.raw)
    body = update.get("message") or update.get("edited_message")
    return (body["chat"]["id"], body["message_id"]) if body else None


def _fate(said: Said, stored: _Stored, telegram: People) -> Fate:
    items = stored.items.get((said.chat, said.message_id), ())
    if not items:
        return Fate.WAITING if telegram.pending() else Fate.LOST
    if any(item.state in {InboxState.NEW, InboxState.CLAIMED} for item in items):
        return Fate.WAITING
    rows = [stored.rows[item.turn_id] for item in items if item.turn_id in stored.rows]
    if not rows:
        return Fate.LOST
    return _fate_of_row(rows[0], said.chat, telegram)


def _fate_of_row(row: OutboxRecord, chat: int, telegram: People) -> Fate:
    if row.state is not OutboxState.SENT:
        return Fate.LOST if row.state in {OutboxState.FAILED, OutboxState.CANCELLED} else Fate.WAITING
    shown = {message.message_id: message.text for message in telegram.screen(chat) if message.is_bot}
    texts = [shown.get(int(ref), "") for ref in row.chunks]
    return Fate.ANSWERED if texts and all(text not in {"", PLACEHOLDER} for text in texts) else Fate.LOST


def _shown_twice(stored: _Stored, telegram: People) -> int:
    owned: defaultdict[int, set[int]] = defaultdict(set)
    for row in stored.rows.values():
        refs = [ref for ref in (*row.chunks, row.placeholder_ref) if ref]
        owned[stored.chats.get(row.conversation_id, 0)].update(map(int, refs))
    shown = ((chat, message) for chat in telegram.state.chats for message in telegram.screen(chat) if message.is_bot)
    return sum(1 for chat, message in shown if message.text not in {"", PLACEHOLDER} and message.message_id not in owned[chat])
