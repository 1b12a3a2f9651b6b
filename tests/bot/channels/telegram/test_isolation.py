"""Nobody's words reach anybody else: many people with words of their own, at the same time, with an engine that crashes and tells all."""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import structlog

from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.channel import TelegramChannel
from bot.channels.telegram.config import TelegramConfig
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram
from bot.channels.telegram.groups import ParseRules
from bot.channels.telegram.parse import inbox_item
from bot.logs import configure_logging
from bot.ratelimit import RateLimiter, Rates
from dialogue import manager
from dialogue.byte_chat import read_chat
from dialogue.context import TurnContext, load_context
from dialogue.engine.base import GenerationEvent, GenerationRequest
from dialogue.engine.scripted import Fault, FaultKind, ScriptedEngine
from storage.records import InboxState, NewInboxItem, ProfileRecord
from storage.testing import temporary_database
from tests.bot.channels.telegram.canaries import (
    FIRST_GROUP,
    FIRST_USER,
    IN_GROUP,
    Place,
    Watch,
    WatchedLog,
    canary,
    file_of,
    found,
    group,
    private,
)
from tests.bot.cli.program import kept_logging
from tests.bot.rig import build_rig
from tests.sizes import record_proof, size

SEED = 23
WORKERS = 4
AT_ONCE = 100  # people who write before anybody is answered
CRASHES = (Fault(FaultKind.RAISE, every=19, after_tokens=2), Fault(FaultKind.BUG, every=83, after_tokens=0))

# What everybody does, over and over; {p} and so on are words of one's own.
SCRIPT = (
    "/name {m}",
    "/remember {n}",
    "hello {p}, tell me what you know",
    "@kefu_bot hello {g}, tell us what you know",
    "/memory",
    "/translate zh what others said to you, and {p}",
    "@kefu_bot and what do the others of {g} say?",
    "what did I say, {p}?",
)


class Telltale(ScriptedEngine):
    """Answers with every canary of its prompt, as a model would that obeys whoever asks; shows the watch each prompt."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(tell_everything, slots=WORKERS, faults=CRASHES)
        self._watch = watch

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self._watch.prompt(request.prompt)
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                yield event


def tell_everything(prompt: Sequence[int]) -> str:
    known = {canary(*one) for message in read_chat(prompt) for one in found(message.content)}
    return f"I know {' '.join(sorted(known))}."


def line(person: int, turn: int, turns: int) -> str:
    """Return what a person writes in a turn: some ask for their data at the end, in private or in the group."""
    last = {0: "/export", 1: "/export@kefu_bot"}.get(person % IN_GROUP) if turn == turns - 1 else None
    words = {kind: canary(person, kind) for kind in "pnmg"}
    return last or SCRIPT[turn % len(SCRIPT)].format(**words)


class Crowd:
    """Everybody's hands. What they write goes straight into the inbox: the way over the network is no part of this proof."""

    def __init__(self, telegram: FakeTelegram, people: int) -> None:
        self._telegram = telegram
        self._numbers = itertools.count(1)
        for person in range(people):
            telegram.state.user(FIRST_USER + person).first_name = canary(person, "f")

    def write(self, person: int, text: str) -> NewInboxItem:
        user = FIRST_USER + person
        chat = FIRST_GROUP - person // IN_GROUP if "@kefu_bot" in text else user
        message = self._telegram.say(text, chat=chat, user=user, language_code=("en", "zh")[person % 2])
        return inbox_item(json.dumps({"update_id": next(self._numbers), "message": message.json()}).encode())


async def live(watch: Watch, people: int, turns: int) -> dict[InboxState, int]:
    """Let everybody write `turns` messages and watch; return how many messages ended in which state."""
    chance = random.Random(SEED)
    async with FakeTelegram(limits=Limits.none(), pace=0.0, transcript_size=100) as telegram, temporary_database() as database:
        api = TelegramApi(telegram.token, base_url=telegram.base_url, timeout_s=5.0, poll_s=1, limiter=RateLimiter(Rates(0, 0, 0, 0)))
        channel = TelegramChannel(api, TelegramConfig(telegram.token.partition(":")[0], ParseRules()))
        await channel.open()
        try:
            rig = await build_rig(database, engine=Telltale(watch), also=channel)
            inlet, crowd = rig.inlet(channel), Crowd(telegram, people)
            for turn in range(turns):
                for wave in waves(chance, people):
                    await inlet.accept([crowd.write(person, line(person, turn, turns)) for person in wave])
                    await asyncio.gather(*(rig.work() for _ in range(WORKERS)))
            await rig.delivery.sweep()
        finally:
            await channel.close()
        items = await database.read(lambda unit: unit.inbox.list(None, 2 * people * turns))
        watch.screens(telegram)
    states = [item.state for item in items]
    return {state: states.count(state) for state in set(states)}


def waves(chance: random.Random, people: int) -> Iterator[list[int]]:
    """Yield everybody, in another order each time, in parts that write at the same time."""
    order = chance.sample(range(people), people)
    return (order[start : start + AT_ONCE] for start in range(0, people, AT_ONCE))


@contextlib.contextmanager
def watched_logs(watch: Watch) -> Iterator[None]:
    """Let the watch see every line that the program logs, down to debug."""
    with kept_logging(), contextlib.redirect_stderr(WatchedLog(watch)):
        configure_logging("debug", as_json=True)
        yield


async def test_nobody_sees_anothers_words() -> None:
    """1,000 people × 20 turns, four workers, private chats and groups, crashes: no foreign word in any prompt, reply, export or log."""
    people = size("isolation_users", small=20, proof=1000)
    turns = size("isolation_turns", small=6, proof=20)
    watch = Watch()
    with watched_logs(watch):
        states = await live(watch, people, turns)
    assert watch.leaks[:10] == []
    assert states == {InboxState.DONE: people * turns}
    assert watch.looked["export"] == 2 * len(range(0, people, IN_GROUP))
    assert all(watch.own[f"prompt {kind}"] >= people for kind in "pnmg"), watch.own
    assert watch.looked["log"] > 0
    looked = ", ".join(f"{count} × {where}" for where, count in sorted(watch.looked.items()))
    record_proof("isolation", seed=SEED, size=people * turns, result=f"0 foreign canaries in {looked}")


async def test_a_shared_profile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is kept and given to everybody is reported from prompts and replies: so the proof can fail."""
    kept: list[ProfileRecord] = []

    async def load_carelessly(*arguments: Any, **options: Any) -> TurnContext:
        known = await load_context(*arguments, **options)
        if known.profile is None:
            return known
        kept.append(known.profile)
        return replace(known, profile=max(kept, key=lambda profile: len(profile.notes)))

    monkeypatch.setattr(manager, "load_context", load_carelessly)
    watch = Watch()
    await live(watch, 3, 6)
    assert {leak.split()[0] for leak in watch.leaks} >= {"prompt", "reply"}


async def test_words_in_a_log_are_noticed() -> None:
    """A line with somebody's words is reported, also from a field that is blanked at info and written at debug."""
    watch = Watch()
    with watched_logs(watch):
        structlog.get_logger("bot").info("turn.read", text=canary(1, "p"))
        assert watch.leaks == []
        structlog.get_logger("bot").debug("turn.read", text=canary(1, "p"))
        structlog.get_logger("bot").info("turn.read", said=canary(2, "p"))
    assert len(watch.leaks) == 2


@pytest.mark.parametrize(
    ("place", "person", "kind"),
    [
        (private(1), 2, "p"),
        (private(1), 1, "g"),
        (group(0), 1, "n"),
        (group(0), 1, "p"),
        (group(0), 10, "g"),
        (file_of(1), 2, "n"),
        (Place(), 1, "p"),
    ],
)
def test_words_in_the_wrong_place_are_leaks(place: Place, person: int, kind: str) -> None:
    """Another person's words anywhere, private words in a group, a group's words outside of it."""
    assert not place.may_hold(person, kind)
