"""A person takes over while an answer is being finished: whatever the moment, the bot is silent once that was confirmed."""

import asyncio
import random
from collections.abc import Callable

import pytest

from bot.channels.fake_platform import FakePlatform
from bot.handoff_desk import Desk, NothingRuns, TurnEnder
from storage.database import Database
from storage.records import Owner
from tests.bot.rig import Rig, build_rig
from tests.sizes import record_proof, size

SEED = 20261125
CALLS_AT_MOST = 7  # of one short answer: a placeholder, previews, the final text
STEPS_AT_MOST = {
    "sqlite": 40,
    "postgresql": 400,
}  # of the event loop, of one call and before a takeover: about one round trip to the database
PLANTED_AT_MOST = 100  # races until the planted fault is seen; mostly one of the first ten


class SlowPlatform(FakePlatform):
    """Each call takes some steps of the event loop; notes every call of the bot that is begun or accepted in a silent chat."""

    def __init__(self, chance: random.Random, dialect: str) -> None:
        super().__init__()
        self.steps_at_most = STEPS_AT_MOST[dialect]
        self.silent: set[str] = set()
        self.breaches: list[str] = []
        self.calls = 0
        self._chance = chance

    async def _call(self, operation: str, chat: str, effect: Callable[[], str]) -> str:
        self.calls += 1
        self._note(chat, f"{operation} begun")
        self._notify()
        await steps(self._chance.randrange(self.steps_at_most))
        self._note(chat, f"{operation} accepted")
        return await super()._call(operation, chat, effect)

    def _note(self, chat: str, what: str) -> None:
        if chat in self.silent:
            self.breaches.append(f"{chat}: {what}")


class HastyDesk(Desk):
    """The planted fault: confirms as soon as the database says that a person has the conversation."""

    async def take(self, conversation_id: str, actor: str) -> dict[str, object]:
        taken = await self._database.write(lambda unit: unit.conversations.take(conversation_id, actor))
        return {"owner": taken.conversation.owner.value}


async def steps(count: int) -> None:
    """Let the others go on for some steps of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def one_step(_seconds: float) -> None:
    """Stand in for the `sleep` of a desk: messages here arrive after some steps, not after some time."""
    await asyncio.sleep(0)


async def race(rig: Rig, platform: SlowPlatform, desk: Desk, chance: random.Random, chat: str) -> str:
    """Let somebody take over at some moment of an answer; return when it was: before, while or after it was made."""
    before = platform.calls
    await rig.say("hello", chat=chat)
    conversation = await rig.conversation(chat)
    moment, delay = chance.randrange(CALLS_AT_MOST), chance.choice((0, chance.randrange(platform.steps_at_most)))
    working = asyncio.create_task(rig.pool.run_once())
    while platform.calls < before + moment and not working.done():
        await steps(1)
    await steps(delay)
    when = "after" if working.done() else "before" if platform.calls == before else "while"
    await desk.take(conversation.id, "ada")
    platform.silent.add(chat)
    await working
    await rig.work()
    await rig.delivery.sweep()
    return when


async def open_race(database: Database, seed: int = SEED) -> tuple[Rig, SlowPlatform, random.Random]:
    chance = random.Random(seed)
    platform = SlowPlatform(chance, database.dialect)
    return await build_rig(database, platform=platform), platform, chance


async def run_races(database: Database, count: int, make_desk: Callable[[Rig], Desk]) -> tuple[SlowPlatform, Rig, set[str]]:
    """Race `count` times, each in a chat of its own; return what the platform saw and at which moments a takeover fell."""
    rig, platform, chance = await open_race(database)
    desk = make_desk(rig)
    moments = {await race(rig, platform, desk, chance, f"chat-{number}") for number in range(count)}
    return platform, rig, moments


def desk_of(database: Database, turns: TurnEnder) -> Desk:
    return Desk(database, turns, preview_s=15.0, sleep=one_step)


async def test_the_bot_is_silent_after_the_confirmation(database: Database) -> None:
    """5,000 races of `take` against an answer that is being finished: no call of the bot is begun or accepted after it was confirmed."""
    count = size("takeover_races", small=40, proof=5000)
    platform, rig, moments = await run_races(database, count, lambda rig: desk_of(database, rig.running))
    assert platform.breaches == []
    assert moments == {"before", "while", "after"}
    assert {(await rig.conversation(f"chat-{number}")).owner for number in range(count)} == {Owner.HUMAN}
    result = f"0 calls begun or accepted after the confirmation, {platform.calls} before it"
    record_proof(f"takeover races on {database.dialect}", seed=SEED, size=count, result=result)


async def test_the_bot_of_another_process_is_silent_too(database: Database) -> None:
    """A desk that cannot reach the running answer waits until its claim has ended. SQLite has no other process."""
    if database.dialect == "sqlite":
        return
    count = size("takeover_races_elsewhere", small=25, proof=1000)
    platform, _, moments = await run_races(database, count, lambda _rig: desk_of(database, NothingRuns()))
    assert platform.breaches == []
    assert "while" in moments
    record_proof("takeover races between processes", seed=SEED, size=count, result="0 calls begun or accepted after the confirmation")


async def test_the_race_can_be_lost(database: Database) -> None:
    """A desk that confirms at once is caught: so the proof can fail."""
    rig, platform, chance = await open_race(database)
    desk = HastyDesk(database, rig.running, preview_s=15.0)
    for number in range(PLANTED_AT_MOST):
        await race(rig, platform, desk, chance, f"chat-{number}")
        if platform.breaches:
            return
    pytest.fail(f"{PLANTED_AT_MOST} takeovers that waited for nothing, and no call was noticed")


@pytest.mark.parametrize("seed", range(4))
async def test_what_comes_after_the_release_is_answered(database: Database, seed: int) -> None:
    """However the takeover met the answer, after the release the bot answers what is said next."""
    rig, platform, chance = await open_race(database, seed)
    desk = desk_of(database, rig.running)
    await race(rig, platform, desk, chance, "chat")
    said = await desk.say((await rig.conversation()).id, "I am Ada.", "ada", wait=False)
    await desk.release((await rig.conversation()).id, "ada")
    platform.silent.clear()
    await rig.say("again")
    await rig.work()
    of_person, of_bot = platform.shown()[-2:]
    assert of_person == "I am Ada."
    assert of_bot in {"You said: again", "You said: hello\n\nagain"}  # "hello" stands in the prompt if nobody has answered it
    assert (await database.read(lambda unit: unit.outbox.get(said["id"]))).state.value == "sent"
