"""Effectively once, against a Telegram that loses answers, and shown as stored, against one that refuses calls of every kind."""

import random
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from bot.channels.telegram import reply_stream
from bot.channels.telegram.fake_faults import Fault, FaultKind, Faults
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import FakeTelegram
from bot.channels.telegram.fake_text import shown_as
from bot.channels.telegram.render import render
from bot.channels.telegram.reply_stream import PLACEHOLDER
from bot.ratelimit import Rates
from storage.clock import ManualClock
from storage.database import Database
from storage.testing import temporary_database
from tests.bot.channels.telegram.delivery_rig import HandTime, TelegramRig, telegram_rig
from tests.sizes import record_proof, size

SENDS = ("sendMessage", "editMessageText")
SHOWING = (*SENDS, "sendMessageDraft")
CHATS = tuple(range(1001, 1041)) + tuple(range(-4040, -4000))
LONGEST = 12_000
BLOCKS = (
    "Plain words with **bold**, _slanted_ and `code` {n}.",
    "# Heading {n}",
    "- first {n}\n- second\n  - inner",
    "1. one {n}\n2. two",
    "```python\nprint('{n}')\nif True:\n    pass\n```",
    "> quoted {n}\n> again",
    "你好，世界 {n}。这是一个很长的句子，没有空格。",
    "👩‍👩‍👧‍👦 family {n} 🇩🇪 flags 👍🏽 and ~~struck~~ ||hidden||",
    "[a link {n}](https://example.com/a?b=c&d=e) and <b>no tag</b> & 1 < 2 * 3 * 4 _ 5",
    "| a | b |\n|---|---|\n| {n} | 2 |",
    "unclosed **bold {n} and `code and [brackets](",
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sqlite(clock: ManualClock) -> AsyncIterator[Database]:
    """An empty SQLite database; what differs between databases, the contract suites and the crash test look at."""
    async with temporary_database(clock) as database:
        yield database


@pytest.mark.timeout(3600)
async def test_lost_answers_neither_lose_nor_repeat_a_message(sqlite: Database, clock: ManualClock) -> None:
    """5 % of the responses lost, 2 % of the calls taking effect late, 1 % failing: 0 lost, 0 answered twice, every orphan listed."""
    count, seed, time = size("telegram_lost_responses", small=200, proof=10_000), 3, HandTime(clock)
    faults = Faults({FaultKind.LOST: 0.05, Fault(FaultKind.LATE, 0): 0.02, FaultKind.ERROR: 0.01}, methods=SENDS, seed=seed)
    async with FakeTelegram(limits=Limits.none(), faults=faults, clock=time.seconds, pace=0, transcript_size=10) as telegram:
        kefu = await telegram_rig(sqlite, telegram, time, rates=Rates(0, 3, 0, 0))
        for number in range(count):
            chat = CHATS[number % len(CHATS)]
            telegram.say(f"m{number}.", chat=chat, user=abs(chat))
            if chat == CHATS[-1] or number == count - 1:
                await _answer_all(kefu)
        lost, twice, disordered, orphans = _seen(telegram, count)
        listed = await sqlite.read(lambda unit: unit.outbox.orphans())
        await kefu.channel.close()
    result = f"{lost} lost, {twice} answered twice, {disordered} out of order, {orphans} orphan placeholders, {listed} listed"
    record_proof("sends with 5 % lost responses", seed=seed, size=count, result=result)
    assert (lost, twice, disordered) == (0, 0, 0), result
    assert len(faults.injected) > count // 20
    assert orphans <= listed


async def _answer_all(kefu: TelegramRig) -> None:
    await kefu.receive()
    await kefu.rig.work()
    await kefu.deliver_the_rest()


def _seen(telegram: FakeTelegram, count: int) -> tuple[int, int, int, int]:
    """Return how many messages have no answer, how many answers are too many, chats out of order, and orphan placeholders."""
    shown = {chat: [one.text for one in telegram.screen(chat) if one.is_bot] for chat in CHATS[:count]}
    orphans = sum(texts.count(PLACEHOLDER) for texts in shown.values())
    answers = {chat: [int(number) for number in re.findall(r"m(\d+)\.", "\n".join(texts))] for chat, texts in shown.items()}
    seen = [number for numbers in answers.values() for number in numbers]
    disordered = sum(any(one > next_one for one, next_one in pairwise(numbers)) for numbers in answers.values())
    return count - len(set(seen)), len(seen) - len(set(seen)), disordered, orphans


@pytest.mark.timeout(3600)
async def test_what_is_shown_is_what_is_stored(sqlite: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed with 429, 5xx, "not modified" and texts up to four messages long: shown equals stored, 0 calls inside a retry_after."""
    monkeypatch.setattr(reply_stream, "FIRST_S", 0.0)
    count, seed, time = size("telegram_streams", small=60, proof=2000), 9, HandTime(clock)
    rates: dict[FaultKind | Fault, float] = {
        FaultKind.BUSY: 0.06,
        FaultKind.ERROR: 0.03,
        FaultKind.ERROR_HTML: 0.02,
        FaultKind.NOT_MODIFIED: 0.05,
    }
    faults, chance = Faults(rates, methods=SHOWING, seed=seed, busy_s=(1, 600)), random.Random(seed)
    async with FakeTelegram(faults=faults, clock=time.seconds, pace=0, transcript_size=100) as telegram:
        kefu = await telegram_rig(sqlite, telegram, time, rates=Rates())
        wrong = [text for number in range(count) if not await _is_shown_as_stored(kefu, _chat(telegram, number), text := _answer(chance))]
        previews = sum(len(draft.texts) for draft in telegram.drafts())
        violations, lost_formatting = list(telegram.violations()), telegram.lost_formatting()
        await kefu.channel.close()
    busy = sum(fault.kind is FaultKind.BUSY for _, fault in faults.injected)
    result = f"{len(wrong)} shown otherwise than stored, {len(violations)} calls inside a retry_after ({busy} of them given)"
    record_proof("streamed replies", seed=seed, size=count, result=result)
    assert wrong == []
    assert (violations, lost_formatting) == ([], [])
    assert min(busy, previews) > count // 10


async def test_a_part_without_its_formatting_shows_its_addresses(sqlite: Database, clock: ManualClock) -> None:
    """Of an answer of several messages each is refused once for its formatting: the addresses of its links are in its text."""
    time, faults = HandTime(clock), Faults()
    faults.script("editMessageText", *([FaultKind.ENTITIES, None] * 3))
    text = "\n\n".join(f"[page {number}](https://shop.example/{number}) " + "words " * 100 for number in range(14))
    async with FakeTelegram(limits=Limits.none(), faults=faults, clock=time.seconds, pace=0) as telegram:
        telegram.start(chat=CHATS[0])
        kefu = await telegram_rig(sqlite, telegram, time, rates=Rates(0, 3, 0, 0))
        await kefu.stream(CHATS[0], text, [])
        shown = [one for one in telegram.screen(CHATS[0]) if one.is_bot]
        await kefu.channel.close()
    assert [one.entities for one in shown] == [()] * 3
    assert re.findall(r"page \d+ \(https://shop\.example/(\d+)\)", "".join(one.text for one in shown)) == [
        str(number) for number in range(14)
    ]


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_lost_placeholder_is_counted_although_the_next_attempt_has_to_wait(
    sqlite: Database, clock: ManualClock, *, is_refused: bool
) -> None:
    """The attempt behind a lost one waits for its slot, or is put off, and makes the row ready: the placeholder is still listed."""
    time, faults = HandTime(clock), Faults()
    faults.script("sendMessage", *([None] * is_refused), FaultKind.LOST)
    faults.script("editMessageText", *([None, Fault(FaultKind.BUSY, 60)] * is_refused))
    async with FakeTelegram(limits=Limits.none(), faults=faults, clock=time.seconds, pace=0) as telegram:
        telegram.start(chat=CHATS[0])
        kefu = await telegram_rig(sqlite, telegram, time, rates=Rates(0, 3, 0, 0) if is_refused else Rates(0.01, 1, 0, 0))
        row = await kefu.stream(CHATS[0], "word " * (1000 if is_refused else 10), [])
        shown = [one.text for one in telegram.screen(CHATS[0]) if one.is_bot]
        await kefu.channel.close()
    assert (row.orphans, shown.count(PLACEHOLDER)) == (1, 1)


def _chat(telegram: FakeTelegram, number: int) -> int:
    """Return a private chat or a group in which nobody has spoken."""
    chat = 10_000 + number if number % 2 else -10_000 - number
    telegram.start(chat=chat)
    return chat


async def _is_shown_as_stored(kefu: TelegramRig, chat: int, text: str) -> bool:
    row = await kefu.stream(chat, text, _pieces(text))
    shown = [one.text for one in kefu.telegram.screen(chat) if one.is_bot and one.text != PLACEHOLDER]
    parts = [shown_as(part.text, [entity.as_json() for entity in part.entities])[0] for part in render(row.text)]
    return row.text == text and shown == parts and _words(text) == _words("".join(shown))


def _words(text: str) -> list[str]:
    """Return what nobody would call markup: numbers of the blocks, Chinese, emoji."""
    return re.findall(r"n\d+n|[一-龥]|[\U0001F300-\U0001FAFF]", text)


def _answer(chance: random.Random) -> str:
    """Return an answer of 1 to LONGEST characters, cut anywhere, so that Markdown is often left open."""
    length = chance.choice((chance.randint(1, 200), chance.randint(200, 4000), chance.randint(4000, LONGEST)))
    blocks: list[str] = []
    while sum(map(len, blocks)) < length:
        blocks.append(chance.choice(BLOCKS).format(n=f"n{chance.randrange(10**6)}n") + chance.choice(("\n", "\n\n", " ")))
    return "".join(blocks)[:length].strip() or "."


def _pieces(text: str) -> list[str]:
    step = max(1, len(text) // 5)
    return [text[start : start + step] for start in range(0, len(text), step)]
