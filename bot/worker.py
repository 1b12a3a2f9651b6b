"""The workers: in order inside a conversation, parallel across conversations.

The mechanism. N tasks do the same thing for ever: claim a conversation, make one turn of its oldest messages, deliver the
answer, give the conversation back. The claim is a lease in the database with an epoch; a heartbeat renews it while the turn
runs. So the order needs no queues in memory: a conversation that somebody works on is not handed out, and what arrives in
it meanwhile waits in the inbox. A slow model keeps workers busy, never the way in (`bot.inbox`).

    turnstile ─► claim ─► parse ─► choose the turn ─► may they? ─► respond + previews ─► commit ─► deliver ─► release

Looking for work. Only the worker at the turnstile asks the database; the others wait behind it. It is woken by the inbox
of this process, and looks every POLL_S for what other processes accepted. Channels take turns, so that a busy one does not
starve a quiet one.

The shutdown. `close` lets the worker at the turnstile and those behind it go home; running turns end as usual. Who does not
want to wait cancels the tasks: the claim is given back with the attempt refunded, and the next run starts with it. A
process that is killed gives nothing back; its leases end by themselves.

The races.
- The lease is lost (a stall longer than the lease, a person takes over): the heartbeat gets ClaimLost and cancels the turn,
  or the commit gets it. Either way nothing was written and nothing more is shown; a log line is all that remains. A takeover
  in this process ends the turn at once (`RunningTurns.end`); previews of another process ask before each call.
- Too much comes in: what has waited longer than `queue_s` is answered with words (`bot.turn_admission`), so the wait stays
  bounded and the engine works on answers that somebody still waits for. Messages older than this process are not to blame.
- /stop arrives: the inbox tells the running turn at once; a /stop that another process accepted comes with the next
  heartbeat; one that was claimed together with the message it stops ends that turn before it begins. In a group it counts only
  from the person who is answered.
- The turn is committed and the process dies: the items are done, the outbox row is ready, the next run only delivers.
- Two runs deliver the same row: `bot.delivery` has its own fence.
- A turn fails with a defect: the item is tried again, at last alone; when even its last attempt fails, the user is told so
  and the item is answered by that, so nothing blocks a conversation for ever. Bytes that a channel cannot parse are
  quarantined at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace

import structlog

from bot.access import AccessPolicy
from bot.channels.base import Channel, DeliveryError, ReplyTarget, UnparsableEvent
from bot.delivery import Delivery
from bot.inbox import RunningTurn, RunningTurns
from bot.lease import Lease
from bot.metrics import Metrics
from bot.placeholder import OutboxPlaceholder, may_show
from bot.presses import PressHandler
from bot.preview import Preview
from bot.turn_admission import Refusal, TurnAdmission, gave_up
from bot.turn_choice import Chosen, Parsed, choose_turn
from bot.wakeup import Wakeup
from dialogue.manager import DialogueManager
from dialogue.messages import Abilities, ButtonPress, ConversationKey, ReplyCommitted
from storage.database import Database
from storage.errors import ClaimLost, DatabaseUnavailable, StorageError
from storage.ids import new_id
from storage.records import Claim, InboxRecord, Owner, TurnStatus

POLL_S = 1.0
PAUSE_S = 1.0  # after the database failed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How the workers work."""

    quiet_s: float = 0.8  # silence that ends a burst, on channels where people write in bursts
    lease_s: float = 30.0  # StorageConfig.lease_s
    max_attempts: int = (
        3  # a turn that failed with a defect is tried this often; at most StorageConfig.max_attempts, which counts crashes too
    )
    queue_s: float = 30.0  # LimitsSection.queue_s


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed conversation while a worker has it."""

    channel: Channel
    claim: Claim
    lease: Lease
    turn: RunningTurn


class WorkerPool:
    """What all workers of a process share. Each worker is one task that runs `run`."""

    def __init__(
        self,
        database: Database,
        manager: DialogueManager,
        channels: Sequence[Channel],
        delivery: Delivery,
        *,
        running: RunningTurns,
        wakeup: Wakeup,
        metrics: Metrics,
        config: WorkerConfig,
        presses: PressHandler,
        access: AccessPolicy,
        is_open: Callable[[Channel], bool] = lambda _channel: True,
    ) -> None:
        self._database = database
        self._manager = manager
        self._channels = deque(channels)
        self._delivery = delivery
        self._running = running
        self._wakeup = wakeup
        self._metrics = metrics
        self._config = config
        self._presses = presses
        self._admission = TurnAdmission(database, access, queue_s=config.queue_s)
        self._is_open = is_open
        self._turnstile = asyncio.Lock()
        self._closed = False
        self._name = new_id()

    def close(self) -> None:
        """Begin no new turn: every `run` returns once its turn is done."""
        self._closed = True
        self._wakeup.ring()

    async def run(self) -> None:
        """Work until closed."""
        while (found := await self._next()) is not None:
            await self.serve(*found)

    async def run_once(self) -> bool:
        """Answer one turn if one is waiting; return whether there was one. Raises StorageError."""
        found = await self._find()
        if found is not None:
            await self.serve(*found)
        return found is not None

    async def serve(self, channel: Channel, claim: Claim) -> None:
        """Answer one turn of a claimed conversation and give it back. Raises nothing but CancelledError."""
        refund = True
        key = ConversationKey(channel.name, channel.account, claim.conversation.chat)
        try:
            with self._running.track(key) as turn:
                lease = Lease(self._database, claim, every_s=self._config.lease_s / 3, turn=turn)
                async with lease, self._delivery.lane(claim.conversation.id):
                    await self._serve_in_lane(_Work(channel, claim, lease, turn))
        except ClaimLost as error:
            self._metrics.claims_lost.inc()
            log.info("worker.claim_lost", conversation_id=claim.conversation.id, reason=str(error))
        except DatabaseUnavailable as error:
            log.warning("worker.database_unavailable", conversation_id=claim.conversation.id, reason=str(error))
            await asyncio.sleep(PAUSE_S)
        except Exception:
            refund = False
            self._metrics.turn_errors.inc()
            log.exception("worker.turn_failed", conversation_id=claim.conversation.id, attempts=claim.items[0].attempts)
        finally:
            await self._release(claim, refund=refund)

    async def _next(self) -> tuple[Channel, Claim] | None:
        async with self._turnstile:
            while not self._closed:
                try:
                    found = await self._find()
                except StorageError as error:
                    log.warning("worker.claim_failed", reason=str(error))
                    await asyncio.sleep(PAUSE_S)
                    continue
                if found is not None:
                    return found
                await self._wakeup.wait(POLL_S)
        return None

    async def _find(self) -> tuple[Channel, Claim] | None:
        for _ in range(len(self._channels)):
            channel = self._channels[0]
            self._channels.rotate(-1)
            if not self._is_open(channel):
                continue
            quiet_ms = round(self._config.quiet_s * 1000) if channel.capabilities.joins_bursts else 0
            claim = await self._database.write(
                lambda unit, to=channel, quiet=quiet_ms: unit.inbox.claim(self._name, channel=to.name, account=to.account, quiet_ms=quiet)
            )
            if claim is not None:
                return channel, claim
        return None

    async def _release(self, claim: Claim, *, refund: bool) -> None:
        try:
            await self._database.write(lambda unit: unit.inbox.release(claim, refund=refund))
        except StorageError as error:  # the lease ends by itself
            log.warning("worker.not_released", conversation_id=claim.conversation.id, reason=str(error))
        self._wakeup.ring()  # what came into this conversation meanwhile woke nobody who could have it

    async def _serve_in_lane(self, work: _Work) -> None:
        channel, claim = work.channel, work.claim
        is_last = 1 < self._config.max_attempts <= claim.items[0].attempts  # alone, so that it takes no neighbour with it
        chosen = choose_turn(await self._parse(channel, claim), join=channel.capabilities.joins_bursts and not is_last)
        if chosen.press is not None:
            await self._press(work, chosen, chosen.press)
            return
        if not chosen.messages or (chosen.is_stop and await self._did_stop(claim, chosen)):
            if chosen.items:
                await self._database.write(lambda unit: unit.inbox.dismiss(claim, chosen.inbox_ids))
            return
        try:
            await self._turn(work, chosen)
        except StorageError:
            raise
        except Exception:
            if claim.items[0].attempts < self._config.max_attempts:
                raise
            log.exception("worker.gave_up", conversation_id=claim.conversation.id, attempts=claim.items[0].attempts)
            await self._say_instead(work, chosen, gave_up(chosen))

    async def _parse(self, channel: Channel, claim: Claim) -> list[Parsed]:
        """Let the channel read the items; what it cannot read is quarantined."""
        parsed: list[Parsed] = []
        for item in claim.items:
            try:
                found = channel.parse(item)
                is_press = isinstance(found, ButtonPress)
                parsed.append(Parsed(item, None if is_press else found, found if is_press else None))
            except UnparsableEvent as error:
                await self._quarantine(channel, item, str(error))
            except Exception as error:  # a defect of the channel is no reason to lose the conversation
                log.exception("worker.parser_failed", channel=channel.name, inbox_id=item.id)
                await self._quarantine(channel, item, f"{type(error).__name__} in the parser")
        return parsed

    async def _quarantine(self, channel: Channel, item: InboxRecord, reason: str) -> None:
        log.warning("worker.quarantined", channel=channel.name, inbox_id=item.id, event_id=item.event_id, reason=reason)
        self._metrics.quarantined.labels(channel.name).inc()
        await self._database.write(lambda unit: unit.inbox.quarantine(item.id, reason))

    async def _did_stop(self, claim: Claim, chosen: Chosen) -> bool:
        """Whether this /stop has ended an answer: then that is its answer."""
        newest = await self._database.read(lambda unit: unit.turns.list(claim.conversation.id, limit=1))
        return any(turn.status is TurnStatus.STOPPED and turn.created_at >= chosen.items[-1].received_at for turn in newest)

    async def _press(self, work: _Work, chosen: Chosen, press: ButtonPress) -> None:
        """Do what a button is for, then show it. What is shown may be lost: pressing again shows it again."""
        outcome = await self._presses.handle(work.claim, press, chosen.inbox_ids)
        if outcome is None or not await may_show(self._database, work.claim):
            return
        try:
            await work.channel.show_outcome(press, outcome)
        except DeliveryError as error:
            log.info("worker.press_not_shown", conversation_id=work.claim.conversation.id, reason=str(error))

    async def _turn(self, work: _Work, chosen: Chosen) -> None:
        """Respond, commit, deliver. Previews are shown only when nothing older waits to be delivered."""
        work.turn.answers(chosen.messages[-1].sender.external_id)
        channel, conversation_id = work.channel, work.claim.conversation.id
        if work.claim.conversation.owner is Owner.BOT:
            admitted = await self._admission.judge(channel, work.claim, chosen)
            if isinstance(admitted, Refusal):
                await self._say_instead(work, chosen, admitted)
                return
            chosen = replace(chosen, messages=admitted)
        is_clear = await self._delivery.drain(channel, conversation_id)
        if chosen.is_stopped:
            work.turn.stop.set()
        async with work.lease.guard():
            committed = await self._respond(work, chosen, previews=is_clear)
        self._metrics.turn_committed(committed)
        log.info("worker.turn_committed", turn_id=committed.turn.id, status=committed.turn.status.value, items=len(chosen.items))
        if committed.outbox_id is not None:
            await self._delivery.drain(channel, conversation_id, newest=committed.outbox_id)

    async def _say_instead(self, work: _Work, chosen: Chosen, refusal: Refusal) -> None:
        await self._admission.say_instead(work.claim, chosen, refusal)
        if refusal.words:
            await self._delivery.drain(work.channel, work.claim.conversation.id)

    async def _respond(self, work: _Work, chosen: Chosen, *, previews: bool) -> ReplyCommitted:
        channel, claim, turn_id = work.channel, work.claim, new_id()
        async with AsyncExitStack() as stack:
            able = Abilities(buttons=channel.capabilities.has_buttons, files=channel.capabilities.sends_files)
            events = self._manager.respond(claim, chosen.messages, chosen.inbox_ids, turn_id=turn_id, stop=work.turn.stop, abilities=able)
            await stack.enter_async_context(aclosing(events))
            preview = None
            if channel.capabilities.streaming:
                message = chosen.messages[-1]
                slot = OutboxPlaceholder(self._database, claim, turn_id, message.message_ref)
                stream = channel.open_reply(ReplyTarget(claim.conversation, turn_id, message), slot)
                preview = await stack.enter_async_context(Preview(stream, turn_id=turn_id, silent=not previews))
            async for event in events:
                if preview is not None:
                    preview.show(event)
                if isinstance(event, ReplyCommitted):
                    return event
        raise RuntimeError("the dialogue ended a turn without committing it")
