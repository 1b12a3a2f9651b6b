"""Load on a bot, and what came of it: messages written all at once or at a rate, and when each was acknowledged and answered.

Message number i says "m<i>."; whoever repeats it in an answer is measured. All of it happens in the server's process, so that
looking on does not disturb. Times are in seconds of the server's clock.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from bot.channels.telegram.fake_chats import Call
from bot.channels.telegram.fake_people import People

_NUMBERS = re.compile(r"\bm(\d+)\.")
_SHOWN = frozenset({"sendmessage", "editmessagetext", "sendmessagedraft"})


@dataclass(slots=True)
class Written:
    """One message on its way."""

    chat: int
    created: float
    acknowledged: float | None = None  # forgotten by the server: the bot asked beyond it, or said 200
    first: float | None = None  # the first sign that people saw
    final: float | None = None  # its answer stood there
    told: float | None = None  # it was refused with words


class Load:
    """One load after the other; each begins with numbers that no earlier one had."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._state = people.state
        self._written: dict[int, Written] = {}
        self._by_update: dict[int, Written] = {}
        self._next_number = 1
        self._since = 0  # calls of the transcript that belong to earlier loads
        self._writing: asyncio.Task[None] | None = None
        self._refusals: frozenset[str] = frozenset()
        self._state.updates.on_forget = self._acknowledged

    def begin(
        self, *, count: int, chats: int, first_chat: int, rate: float = 0.0, seed: int = 0, text: str = "", refusals: Collection[str] = ()
    ) -> None:
        """Write `count` messages: at once and one chat after the other, or with `rate` a second by chance to chats by chance.

        An answer that is one of `refusals` is no answer, but it tells people so.
        """
        self._written.clear()
        self._by_update.clear()
        self._refusals = frozenset(refusals)
        self._since = len(self._state.transcript)
        chance = random.Random(seed)  # noqa: S311 - not for secrets
        where = [first_chat + (chance.randrange(chats) if rate else number % chats) for number in range(count)]
        if not rate:
            for chat in where:
                self._write(chat, text)
            return
        self._writing = asyncio.get_running_loop().create_task(self._write_at(rate, where, chance, text))

    def is_done(self) -> bool:
        """Whether everything is written, and answered or told."""
        if self._writing is not None and not self._writing.done():
            return False
        self._look()
        return all(written.final is not None or written.told is not None for written in self._written.values())

    def result(self, *, window_s: float = 0.0) -> dict[str, Any]:
        """Return counts, percentiles in milliseconds, and with `window_s` the answers in each stretch of time."""
        self._look()
        all_of = list(self._written.values())
        began = min((written.created for written in all_of), default=0.0)
        finals = sorted(written.final for written in all_of if written.final is not None)
        last = max([*finals, *(written.told for written in all_of if written.told is not None)], default=began)
        return {
            "written": len(all_of),
            "answered": len(finals),
            "told": sum(written.told is not None and written.final is None for written in all_of),
            "silent": sum(written.told is None and written.final is None for written in all_of),
            "seconds": last - began,
            "writing_s": max((written.created for written in all_of), default=began) - began,
            "acknowledged_ms": _percentiles(all_of, "acknowledged"),
            "first_ms": _percentiles(all_of, "first"),
            "final_ms": _percentiles(all_of, "final"),
            "answers_per_window": _counts([final - began for final in finals], window_s) if window_s else [],
            "final_ms_per_window": _late(all_of, began, window_s) if window_s else [],
        }

    async def _write_at(self, rate: float, where: list[int], chance: random.Random, text: str) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for chat in where:
            due += chance.expovariate(rate)
            if (wait_s := due - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            self._write(chat, text)

    def _write(self, chat: int, text: str) -> None:
        number, self._next_number = self._next_number, self._next_number + 1
        written = self._written[number] = Written(chat, self._state.now())
        self._by_update[self._state.updates.next_id] = written
        self._people.say(f"m{number}. {text}".rstrip(), chat=chat)

    def _acknowledged(self, update_id: int) -> None:
        written = self._by_update.pop(update_id, None)
        if written is not None:
            written.acknowledged = self._state.now()

    def _look(self) -> None:
        """Read the calls since the last look."""
        waiting: dict[int, list[Written]] = defaultdict(list)
        for written in self._written.values():
            if written.final is None:
                waiting[written.chat].append(written)
        for call in self._new_calls():
            text = str(call.params.get("text", ""))
            for written in waiting.get(call.chat, ()):
                if written.first is None and call.at >= written.created:
                    written.first = call.at
                if text in self._refusals and written.told is None:
                    written.told = call.at
            if call.method != "sendmessagedraft":
                self._answered(text, call.at)

    def _answered(self, text: str, at: float) -> None:
        for number in _NUMBERS.findall(text):
            written = self._written.get(int(number))
            if written is not None and written.final is None:
                written.final = at

    def _new_calls(self) -> Iterator[Call]:
        calls = self._state.transcript
        for index in range(self._since, len(calls)):
            call = calls[index]
            if call.method in _SHOWN and call.code == 200:
                yield call
        self._since = len(calls)


def _percentiles(all_of: list[Written], what: str) -> dict[str, float]:
    values = sorted(1000 * (getattr(written, what) - written.created) for written in all_of if getattr(written, what) is not None)
    return {name: _at(values, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def _counts(moments: list[float], window_s: float) -> list[int]:
    counts = [0] * (int(max(moments, default=0.0) / window_s) + 1)
    for moment in moments:
        counts[int(moment / window_s)] += 1
    return counts


def _late(all_of: list[Written], began: float, window_s: float) -> list[float]:
    """Return the median time to the answer of the messages that were written in each stretch of time."""
    stretches: dict[int, list[float]] = defaultdict(list)
    for written in all_of:
        if written.final is not None:
            stretches[int((written.created - began) / window_s)].append(1000 * (written.final - written.created))
    return [_at(sorted(stretches.get(number, [])), 0.5) for number in range(max(stretches, default=-1) + 1)]
