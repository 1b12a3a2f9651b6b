"""Short ways to bring a database into a state: what channels, workers and senders would do."""

from dataclasses import replace
from typing import Any

from storage.database import Database
from storage.ids import new_id
from storage.records import Claim, InboxKind, NewInboxItem, NewTurn, OutboxRecord, TurnRecord, TurnStatus
from storage.unit_of_work import UnitOfWork

CHANNEL, ACCOUNT = "telegram", "bot1"


def item(event_id: str, chat: str = "chat", **fields: Any) -> NewInboxItem:
    """Return an event; its raw bytes say its id."""
    return NewInboxItem(event_id=event_id, chat=chat, raw=event_id.encode(), **fields)


def stop(event_id: str, chat: str = "chat") -> NewInboxItem:
    """Return a STOP event."""
    return item(event_id, chat, kind=InboxKind.STOP)


async def accept(database: Database, *items: NewInboxItem, offset: int | None = None) -> int:
    """Accept events on the usual channel."""
    return await database.write(lambda unit: unit.inbox.accept(CHANNEL, ACCOUNT, items, offset))


async def say(database: Database, *event_ids: str, chat: str = "chat") -> int:
    """Accept plain messages of a chat."""
    return await accept(database, *(item(event_id, chat) for event_id in event_ids))


async def claim(database: Database, worker: str = "worker", **options: Any) -> Claim:
    """Claim, and insist that there is something to claim."""
    claimed = await database.write(lambda unit: unit.inbox.claim(worker, **options))
    assert claimed is not None
    return claimed


async def nothing_to_claim(database: Database, **options: Any) -> bool:
    """Return whether a worker gets nothing."""
    return await database.write(lambda unit: unit.inbox.claim("other", **options)) is None


async def user(unit: UnitOfWork, external_id: str = "ann") -> str:
    """Return the id of the user with this platform id."""
    return (await unit.users.ensure(CHANNEL, ACCOUNT, external_id)).id


def turn(claimed: Claim, user_id: str, **changes: Any) -> NewTurn:
    """Return a turn that answers all items of the claim."""
    asked = " ".join(item.event_id for item in claimed.items)
    made = NewTurn(
        id=new_id(),
        user_id=user_id,
        skill="chat",
        status=TurnStatus.ANSWERED,
        user_text=asked,
        reply_text=f"re {asked}",
        inbox_ids=tuple(item.id for item in claimed.items),
    )
    return replace(made, **changes)


async def answer(
    database: Database, claimed: Claim, *, external_id: str = "ann", reply: str | None = "", **changes: Any
) -> tuple[TurnRecord, OutboxRecord | None]:
    """Commit a turn for the claim; the reply is the turn's text unless given."""

    async def work(unit: UnitOfWork) -> tuple[TurnRecord, OutboxRecord | None]:
        new_turn = turn(claimed, await user(unit, external_id), **changes)
        words = new_turn.reply_text if reply == "" else reply
        return await unit.turns.commit(claimed, new_turn, reply=words, owner_epoch=claimed.conversation.owner_epoch)

    return await database.write(work)


async def ready_message(database: Database, event_id: str = "1", chat: str = "chat") -> OutboxRecord:
    """Bring one reply up to `ready` and give the conversation back."""
    await say(database, event_id, chat=chat)
    claimed = await claim(database)
    _, row = await answer(database, claimed)
    assert row is not None
    await database.write(lambda unit: unit.inbox.release(claimed))
    return row
