"""The program that the crash test kills: the real app, a scripted engine, the platform in a file.

`python -m tests.crash.app_child PLAN` imports everything once and forks a fresh run for each line on stdin, so that a kill
costs milliseconds instead of a start of the interpreter. It prints the process id of each run, and how it ended.
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bot import app as app_module
from bot.app import RunOptions
from bot.channels.base import Channel, Inlet, OutgoingReply
from bot.channels.fake import FakeChannel
from bot.delivery import Delivery
from bot.logs import configure_logging
from bot.settings_sections import StorageSection
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import ScriptedEngine
from storage.records import OutboxRecord
from storage.unit_of_work import UnitOfWork
from tests.bot.apps import app_settings, make_app
from tests.crash.journal import JournalPlatform

CARELESS_S = 0.1  # between the two steps that a planted fault has in the wrong order, so that a few kills suffice to find it
FAULTS = ("", "ack_first", "blind_resend", "no_fence")


@dataclass(frozen=True)
class Plan:
    """What is run."""

    folder: str
    database_url: str = ""  # "" = SQLite in the folder
    editing: bool = True  # the platform can edit messages
    lost: float = 0.0  # share of lost responses
    seed: int = 0
    fault: str = ""  # a planted fault, one of FAULTS

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class AckFirstChannel(FakeChannel):
    """Planted fault: tells the platform to forget before anything is durable."""

    journal: JournalPlatform

    async def poll(self, inlet: Inlet, offset: int | None) -> int:
        newest = (await self.journal.updates(offset))[-1].number
        updates = [update for update in self.journal.updates_waiting.values() if update.number <= newest]
        self.journal.confirm(newest)
        await asyncio.sleep(CARELESS_S)
        self.journal.updates_waiting = {update.number: update for update in updates}
        return await super().poll(inlet, offset)


class NoFenceDelivery(Delivery):
    """Planted fault: crosses the border first, writes `started` and `sent` afterwards."""

    async def _attempt(self, channel: Channel, row: OutboxRecord) -> bool:
        conversation = await self._database.read(lambda unit: unit.conversations.get(row.conversation_id))
        await channel.deliver(OutgoingReply(row, conversation), _NothingRecorded())
        await asyncio.sleep(CARELESS_S)

        async def write_down(unit: UnitOfWork) -> None:
            await unit.outbox.start(row.id)
            await unit.outbox.sent(row.id)

        await self._database.write(write_down)
        return True


class _NothingRecorded:
    """Part of the planted fault."""

    is_repeat = False

    async def record(self, index: int, ref: str) -> None:
        """Nobody will know."""

    async def orphan(self) -> None:
        """Nobody will know."""


def make_channel(plan: Plan, journal: JournalPlatform) -> FakeChannel:
    """Return the channel of the plan, its planted fault included."""
    options: dict[str, Any] = {"editing": plan.editing, "timeout_s": 0.3, "settle_s": 0.05}
    if plan.fault == "ack_first":
        careless = AckFirstChannel(journal, **options)
        careless.journal = journal
        return careless
    channel = FakeChannel(journal, **options)
    if plan.fault == "blind_resend":
        channel.capabilities = type(channel.capabilities)(streaming=False, resend_is_safe=True, timeout_s=0.3)
    return channel


async def run(plan: Plan) -> int:
    """Run the program until it is told to stop."""
    if plan.fault == "no_fence":
        app_module.Delivery = NoFenceDelivery  # type: ignore[misc]
    settings = app_settings(Path(plan.folder))
    storage = StorageSection.model_validate({"lease_s": 1.0, **({"url": plan.database_url} if plan.database_url else {})})
    app = make_app(settings.model_copy(update={"storage": storage}), ScriptedEngine(echo_user, token_delay_s=0.001))
    journal = JournalPlatform(Path(plan.folder) / "platform.jsonl", plan.lost, seed=plan.seed + os.getpid())
    return await app.run([make_channel(plan, journal)], RunOptions(patience_s=10.0))


def main() -> None:
    """Fork a run for each line on stdin."""
    plan = Plan(**json.loads(sys.argv[1]))
    configure_logging("info")
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = 1
            try:
                code = asyncio.run(run(plan))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
