"""A state machine that does at random what channels, workers, senders and agents do, and compares the store with the model.

Clocks stand still unless moved; workers and senders may die at any step; a claim that was lost is tried again all the same.
"""

import asyncio
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from storage.backend import Work
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import ClaimLost, StorageError
from storage.ids import new_id
from storage.models import conversations, inbox, outbox
from storage.records import Claim, InboxKind, InboxState, NewInboxItem, NewTurn, OutboxRecord, OutboxState, Owner, TurnStatus
from storage.repositories.outbox import NEVER
from storage.unit_of_work import UnitOfWork
from tests.storage.model import LEASE_MS, TIMEOUT_MS, Chat, Model, Platform, Row

CHANNEL = "telegram"
CHATS = st.sampled_from(["a", "b", "c"])
PICK = st.integers(0, 10)
OUTCOME = st.sampled_from(["sent", "silent", "lost", "unknown", "refused", "failed"])


class StoreMachine(RuleBasedStateMachine):
    """One account in a database that many runs share."""

    runner: ClassVar[asyncio.Runner]
    clock: ClassVar[ManualClock]
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.account = new_id()
        self.database = self.open_run()
        self.model, self.platform = Model(), Platform()
        self.claims: list[Claim] = []
        self.committed: list[tuple[Claim, NewTurn, str | None]] = []
        self.sending: list[tuple[str, str]] = []
        self.claimed: dict[str, Chat] = {}  # by the id of the conversation, which a move does not change
        self.events = 0
        self.user_id = self.write(lambda unit: unit.users.ensure(CHANNEL, self.account, "user")).id

    def open_run(self) -> Database:
        """Return the database for this run."""
        raise NotImplementedError

    def write(self, work: Work[Any]) -> Any:
        return self.runner.run(self.database.write(work))

    def read(self, work: Work[Any]) -> Any:
        return self.runner.run(self.database.read(work))

    def refused(self, work: Work[Any]) -> bool:
        """Run and return whether the store refused."""
        try:
            self.write(work)
        except StorageError:
            return True
        return False

    # Channels

    @rule(chat=CHATS, count=st.integers(1, 3), repeat=st.booleans(), is_stop=st.booleans())
    def accept(self, chat: str, count: int, repeat: bool, is_stop: bool) -> None:
        """Events arrive, some of them again."""
        ids = [f"e{self.events + number}" for number in range(count)]
        self.events += count
        if repeat:
            ids.append(f"e{(self.events * 7) % self.events}")
        kind = InboxKind.STOP if is_stop else InboxKind.MESSAGE
        items = [NewInboxItem(event, chat, event.encode(), kind) for event in ids]
        stored = self.write(lambda unit: unit.inbox.accept(CHANNEL, self.account, items, self.events))
        assert stored == self.model.accept(chat, ids, self.clock.now, is_stop=is_stop)
        self.clock.advance(1)  # so that no two conversations wait equally long

    @rule(milliseconds=st.sampled_from([500, 2000, LEASE_MS + 1]), pick=PICK, outcome=OUTCOME)
    def time_passes(self, milliseconds: int, pick: int, outcome: str) -> None:
        """Deadlines and leases run out, and the delivery sweep runs."""
        self.clock.advance(milliseconds)
        self.deliver(pick, outcome)

    # Workers

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]), quiet_ms=st.sampled_from([0, 1000]))
    def claim(self, worker: str, quiet_ms: int) -> None:
        """A worker asks for work and gets what the model says."""
        got: Claim | None = self.write(lambda unit: unit.inbox.claim(worker, channel=CHANNEL, account=self.account, quiet_ms=quiet_ms))
        expected = self.model.claim(worker, self.clock.now, quiet_ms)
        assert (got is None) == (expected is None)
        if got is None or expected is None:
            return
        assert got.conversation.chat == expected[0]
        assert [(item.event_id, item.attempts) for item in got.items] == [(item.event, item.attempts) for item in expected[1]]
        self.claims.append(got)
        self.claimed[got.conversation.id] = self.model.chats[expected[0]]

    @precondition(lambda self: self.claims)
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        """A heartbeat holds the lease, sees a STOP, and notices the fence and the takeover."""
        held = self.claims[-1 - pick % len(self.claims)]
        chat = self.chat_of(held)
        try:
            stop_waits = self.write(lambda unit: unit.inbox.renew(held))
        except ClaimLost:
            assert not self.is_current(held) or chat.owner_epoch != held.conversation.owner_epoch
            return
        assert self.is_current(held)
        chat.lease_until = self.clock.now + LEASE_MS
        newest = max(chat.items.index(item) for item in chat.items if item.event in {given.event_id for given in held.items})
        assert stop_waits == any(item.is_stop and item.waits for item in chat.items[newest + 1 :])

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, refund=st.booleans())
    def release(self, pick: int, refund: bool) -> None:
        """A worker gives back; one who lost the claim changes nothing."""
        held = self.claims[-1 - pick % len(self.claims)]
        assert self.write(lambda unit: unit.inbox.release(held, refund=refund)) == self.is_current(held)
        if not self.is_current(held):
            return
        chat = self.chat_of(held)
        chat.worker = ""
        for item in chat.items:
            if item.state is InboxState.CLAIMED:
                item.state, item.attempts = InboxState.NEW, item.attempts - (refund and item.event == held.items[0].event_id)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, noted=st.booleans())
    def placeholder(self, pick: int, noted: bool) -> None:
        """A worker writes down the row and shows a placeholder; it may die before it notes its id."""
        held = self.claims[-1 - pick % len(self.claims)]
        chat = self.chat_of(held)
        made: list[str] = []

        async def work(unit: UnitOfWork) -> None:
            turn_id = new_id()
            made.append((await unit.outbox.reserve(held, turn_id, "")).id)
            if noted:
                await unit.outbox.set_placeholder(made[0], "p", turn_id=turn_id)

        assert self.refused(work) == (not self.may_write(held))
        if self.may_write(held):
            assert chat.reserved in {None, made[0]}
            chat.reserve(made[0], noted=noted)

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, count=st.integers(1, 3), is_silent=st.sampled_from([False, False, True]))
    def commit(self, pick: int, count: int, is_silent: bool) -> None:
        """A worker answers some items of its claim; the store takes it only if the model would."""
        held = self.claims[-1 - pick % len(self.claims)]
        chat, given = self.chat_of(held), held.items[:count]
        silent = is_silent or held.conversation.owner is Owner.HUMAN
        turn = NewTurn(new_id(), self.user_id, "chat", TurnStatus.ANSWERED, "?", "!", tuple(item.id for item in given))
        named = {item.event_id for item in given}
        waiting = [item for item in chat.items if item.waits]
        is_prefix = {item.event for item in waiting[: len(named)]} == named
        expected = self.may_write(held) and is_prefix and (silent or not chat.is_human)
        reply = None if silent else "!"
        rows: list[OutboxRecord | None] = []

        async def work(unit: UnitOfWork) -> None:
            _, row = await unit.turns.commit(held, turn, reply=reply, owner_epoch=held.conversation.owner_epoch)
            rows.append(row)

        assert self.refused(work) == (not expected)
        if expected:
            self.committed.append((held, turn, reply))
            self.note_commit(chat, named, rows[-1])

    def note_commit(self, chat: Chat, answered: set[str], row: OutboxRecord | None) -> None:
        """Do in the model what the commit did."""
        chat.turns += 1
        for item in chat.items:
            if item.event in answered:
                item.state = InboxState.DONE
        if row is None:
            chat.end_reserved(OutboxState.CANCELLED, self.clock.now)
            return
        assert chat.reserved in {None, row.id}
        if chat.reserved is None:
            chat.rows[row.id] = Row(by_bot=True, owner_epoch=chat.owner_epoch, state=OutboxState.READY, next_at=self.clock.now)
        else:
            chat.end_reserved(OutboxState.READY, self.clock.now)

    @precondition(lambda self: self.committed)
    @rule(pick=PICK)
    def commit_again(self, pick: int) -> None:
        """A worker whose COMMIT was answered too late tries again; the invariants see that nothing changed."""
        held, turn, reply = self.committed[-1 - pick % len(self.committed)]
        stored, _ = self.write(lambda unit: unit.turns.commit(held, turn, reply=reply, owner_epoch=held.conversation.owner_epoch))
        assert stored.id == turn.id

    @rule(chat=CHATS, outcome=OUTCOME)
    def whole_turn(self, chat: str, outcome: str) -> None:
        """A message is answered without trouble, so that runs get further than single steps would take them."""
        self.accept(chat, 1, repeat=False, is_stop=False)
        before = len(self.claims)
        self.claim("w1", 0)
        if len(self.claims) > before:
            self.commit(0, 20, is_silent=False)
            self.release(0, refund=False)
        self.deliver(0, outcome)

    # Senders

    @rule(pick=PICK, outcome=OUTCOME)
    def deliver(self, pick: int, outcome: str) -> None:
        """A sender takes a due message; the platform does something with it."""
        rows = self.read(lambda unit: unit.outbox.due(CHANNEL, account=self.account))
        now = self.clock.now
        assert {row.id for row in rows} == {key for chat in self.model.chats.values() if (key := chat.due(now)) is not None}
        if not rows:
            return
        row = sorted(rows, key=lambda row: row.id)[pick % len(rows)]
        if row.state is OutboxState.READY:
            self.start(row, outcome)
        elif row.placeholder_ref:
            self.resume(row, outcome)
        else:
            self.write(lambda unit: unit.outbox.unknown(row.id, "its sender died"))
            self.set(row.id, OutboxState.UNKNOWN, NEVER)

    def start(self, row: OutboxRecord, outcome: str) -> None:
        """Begin a message, unless it is of former hands."""
        chat = self.chat_of_row(row.id)
        started = self.write(lambda unit: unit.outbox.start(row.id, timeout_ms=TIMEOUT_MS))
        is_ours = chat.rows[row.id].owner_epoch == chat.owner_epoch
        assert is_ours or started is None, "the bot spoke though the conversation had changed hands"
        assert started is not None or not is_ours
        if started is None:
            self.set(row.id, OutboxState.CANCELLED)
        else:
            self.send(row, outcome)

    def resume(self, row: OutboxRecord, outcome: str) -> None:
        """Take over a message for an edit of its placeholder, unless a person took over."""
        chat = self.chat_of_row(row.id)
        resumed = self.write(lambda unit: unit.outbox.resume(row.id, timeout_ms=TIMEOUT_MS))
        is_ours = chat.rows[row.id].owner_epoch == chat.owner_epoch
        assert (resumed is not None) == is_ours
        if resumed is None:
            self.set(row.id, OutboxState.UNKNOWN, NEVER)
        else:
            self.send(resumed, outcome)

    def send(self, row: OutboxRecord, outcome: str) -> None:
        """Cross the border; what comes of it is told later, or never."""
        chat = self.chat_of_row(row.id)
        if chat.rows[row.id].by_bot:
            assert not chat.is_human, "the bot spoke while a person had the conversation"
        self.set(row.id, OutboxState.STARTED, self.clock.now + TIMEOUT_MS)
        if outcome in {"sent", "silent", "unknown"}:
            self.platform.show(row.id, by_edit=bool(row.placeholder_ref))
        if outcome not in {"silent", "lost"}:
            self.sending.append((row.id, outcome))

    @precondition(lambda self: self.sending)
    @rule(pick=PICK)
    def end_of_sending(self, pick: int) -> None:
        """A sender notes what came of it, perhaps after somebody else took the message over."""
        key, outcome = self.sending.pop(-1 - pick % len(self.sending))
        chat, later = self.chat_of_row(key), self.clock.now + 1000
        row = chat.rows[key]
        is_ours = row.owner_epoch == chat.owner_epoch
        started_or_unknown = {OutboxState.STARTED, OutboxState.UNKNOWN}
        notes: dict[str, tuple[Work[None], set[OutboxState], OutboxState, int]] = {
            "sent": (lambda unit: unit.outbox.sent(key), started_or_unknown, OutboxState.SENT, row.next_at),
            "refused": (
                lambda unit: unit.outbox.retry(key, later, "429"),
                {OutboxState.STARTED},
                OutboxState.READY if is_ours else OutboxState.CANCELLED,
                later,
            ),
            "unknown": (
                lambda unit: unit.outbox.unknown(key, "no answer", retry_at=later),
                started_or_unknown,
                OutboxState.UNKNOWN,
                later,
            ),
            "failed": (
                lambda unit: unit.outbox.failed(key, "blocked"),
                {*started_or_unknown, OutboxState.READY},
                OutboxState.FAILED,
                row.next_at,
            ),
        }
        note, allowed, state, next_at = notes[outcome]
        is_allowed = row.state in allowed
        assert self.refused(note) == (not is_allowed)
        if is_allowed:
            self.set(key, state, next_at)

    # Agents

    @precondition(lambda self: self.model.chats)
    @rule(pick=PICK, to_human=st.booleans())
    def hand_over(self, pick: int, to_human: bool) -> None:
        """A person takes the conversation, or gives it back."""
        name = sorted(self.model.chats)[pick % len(self.model.chats)]
        chat, conversation_id = self.model.chats[name], self.conversation_id(name)
        if not to_human:
            self.write(lambda unit: unit.conversations.release(conversation_id, "agent"))
        else:
            taken = self.write(lambda unit: unit.conversations.take(conversation_id, "agent"))
            started = [key for key, row in chat.rows.items() if row.state is OutboxState.STARTED]
            assert started[:1] == ([] if taken.in_flight is None else [taken.in_flight.id])
        chat.hand_over(to_human=to_human)

    @precondition(lambda self: self.model.chats)
    @rule(pick=PICK)
    def person_speaks(self, pick: int) -> None:
        """A person says something in a conversation that is theirs."""
        name = sorted(self.model.chats)[pick % len(self.model.chats)]
        chat, conversation_id = self.model.chats[name], self.conversation_id(name)
        if chat.is_human:
            row = self.write(lambda unit: unit.outbox.enqueue(conversation_id, "hello", owner_epoch=chat.owner_epoch))
            chat.rows[row.id] = Row(by_bot=False, owner_epoch=chat.owner_epoch, state=OutboxState.READY, next_at=self.clock.now)

    # Operators and platforms

    @precondition(lambda self: any(chat.rows for chat in self.model.chats.values()))
    @rule(pick=PICK, drops=st.booleans())
    def operate(self, pick: int, drops: bool) -> None:
        """An operator has a message tried again, or drops it."""
        keys = sorted(key for chat in self.model.chats.values() for key in chat.rows)
        key = keys[-1 - pick % len(keys)]
        chat, step = self.chat_of_row(key), "drop" if drops else "retry_by_operator"
        row = chat.rows[key]
        is_over = row.state in {OutboxState.UNKNOWN, OutboxState.FAILED}
        is_allowed = is_over or row.state in {OutboxState.RESERVED, OutboxState.READY} if drops else is_over
        if not drops and row.by_bot and chat.is_human:
            is_allowed = False
        assert self.refused(lambda unit: getattr(unit.outbox, step)(key)) == (not is_allowed)
        if is_allowed and drops:
            row.drop()
        elif is_allowed:
            row.state = OutboxState.READY if row.state is OutboxState.FAILED else OutboxState.UNKNOWN
            row.next_at, row.owner_epoch = self.clock.now, chat.owner_epoch

    @rule(old=CHATS, new=CHATS, is_real=st.sampled_from([True, False, False]))
    def move(self, old: str, new: str, is_real: bool) -> None:
        """The platform gives a chat another id, which may be known already; not too often, so that chats come to something."""
        if is_real:
            self.write(lambda unit: unit.conversations.move(CHANNEL, self.account, old, new))
            self.model.move(old, new)

    # What must hold after every step

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        """No acknowledged event is lost, none is answered twice or out of order, and every row is where it should be."""
        assert self.read(self.stored) == {
            name: (
                {item.event: (item.state, item.attempts) for item in chat.items},
                {key: (row.state, row.orphans) for key, row in chat.rows.items()},
                (chat.turns, chat.claim_epoch, chat.owner_epoch),
            )
            for name, chat in self.model.chats.items()
        }

    async def stored(self, unit: UnitOfWork) -> dict[str, Any]:
        """Return everything that is stored of this account."""
        run = unit._context.connection.execute
        chats = (await run(select(conversations).where(conversations.c.channel == CHANNEL, conversations.c.account == self.account))).all()
        events = (await run(select(inbox).where(inbox.c.channel == CHANNEL, inbox.c.account == self.account))).all()
        rows = (await run(select(outbox).where(outbox.c.conversation_id.in_([chat.id for chat in chats])))).all()
        return {
            chat.chat: (
                {event.event_id: (event.state, event.attempts) for event in events if event.conversation_id == chat.id},
                {row.id: (row.state, row.orphans) for row in rows if row.conversation_id == chat.id},
                (chat.turns, chat.claim_epoch, chat.owner_epoch),
            )
            for chat in chats
        }

    def chat_of(self, held: Claim) -> Chat:
        return self.claimed[held.conversation.id]

    def chat_of_row(self, key: str) -> Chat:
        return next(chat for chat in self.model.chats.values() if key in chat.rows)

    def conversation_id(self, name: str) -> str:
        return self.read(lambda unit: unit.conversations.find(CHANNEL, self.account, name)).id

    def set(self, key: str, state: OutboxState, next_at: int | None = None) -> None:
        row = self.chat_of_row(key).rows[key]
        if state is OutboxState.CANCELLED:
            row.cancel()
        row.state = state
        if next_at is not None:
            row.next_at = next_at

    def is_current(self, held: Claim) -> bool:
        chat = self.chat_of(held)
        return (chat.claim_epoch, chat.worker) == (held.claim_epoch, held.worker)

    def may_write(self, held: Claim) -> bool:
        return self.is_current(held) and self.chat_of(held).owner_epoch == held.conversation.owner_epoch
