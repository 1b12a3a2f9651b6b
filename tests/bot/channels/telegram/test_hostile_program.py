"""Hostile updates through the whole way in: stored, then answered, ignored or set aside where the operator sees them."""

import copy
import json
import random
from collections import Counter

from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.channel import TelegramChannel
from bot.channels.telegram.config import TelegramConfig
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram
from bot.channels.telegram.groups import ParseRules
from bot.channels.telegram.parse import inbox_item
from bot.ratelimit import RateLimiter, Rates
from storage.records import InboxState
from storage.testing import temporary_database
from tests.bot.channels.telegram.test_hostile_updates import CONTAINERS, EXAMPLES, REMOVED, places, put
from tests.bot.rig import build_rig
from tests.dialogue.hostile import NAUGHTY
from tests.sizes import record_proof, size

SEED = 20261125
ODD: list[object] = [None, True, 0, -1, 2**52, 2**63, 10**30, float("inf"), "/stop", "@kefu_bot", "x" * 5000, *NAUGHTY]


def hostile(chance: random.Random, number: int) -> bytes:
    """Return an update in which things are missing, of another type, huge or naughty; one in fifteen is cut or damaged."""
    spoiled = copy.deepcopy(chance.choice(EXAMPLES))
    for _ in range(chance.randrange(4)):
        entry = chance.choice([REMOVED, json.loads(chance.choice(CONTAINERS)), chance.choice(ODD)])
        if everywhere := list(places(spoiled)):
            put(spoiled, chance.choice(everywhere), entry)
    if chance.random() < 0.9:
        spoiled["update_id"] = number
    raw = json.dumps(spoiled, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    damage, at = chance.randrange(30), chance.randrange(len(raw))
    if damage == 0:
        return raw[:at]
    return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :] if damage == 1 else raw


async def test_hostile_updates_stop_nothing() -> None:
    """Each is in the database; all of them end as done or quarantined; the program goes on answering."""
    count, chance = size("hostile_program", small=200, proof=10_000), random.Random(SEED)
    updates = [hostile(chance, number) for number in range(count)]
    async with FakeTelegram(limits=Limits.none(), pace=0.0) as telegram, temporary_database() as database:
        api = TelegramApi(telegram.token, base_url=telegram.base_url, timeout_s=5.0, poll_s=1, limiter=RateLimiter(Rates(0, 0, 0, 0)))
        channel = TelegramChannel(api, TelegramConfig(telegram.token.partition(":")[0], ParseRules()))
        await channel.open()
        try:
            rig = await build_rig(database, also=channel)
            inlet = rig.inlet(channel)
            for start in range(0, count, 100):
                await inlet.accept([inbox_item(raw) for raw in updates[start : start + 100]])
                await rig.work()
            telegram.start(chat=1001)
            message = {"message_id": 1, "date": 1, "chat": {"id": 1001, "type": "private"}, "from": {"id": 1001, "is_bot": False}}
            await inlet.accept([inbox_item(json.dumps({"update_id": count, "message": {**message, "text": "still there?"}}).encode())])
            await rig.work()
            assert [shown.text for shown in telegram.screen(1001)][-1] == "You said: still there?"
        finally:
            await channel.close()
        items = await database.read(lambda unit: unit.inbox.list(None, 2 * count))
    states = Counter(item.state for item in items)
    assert {item.event_id for item in items} == {inbox_item(raw).event_id for raw in updates} | {str(count)}
    assert set(states) == {InboxState.DONE, InboxState.QUARANTINED}
    assert not [item for item in items if "in the parser" in item.error], "the parser has a defect"
    result = f"{states[InboxState.DONE]} answered or ignored, {states[InboxState.QUARANTINED]} quarantined, 0 lost"
    record_proof("hostile updates through the program", seed=SEED, size=count, result=result)
