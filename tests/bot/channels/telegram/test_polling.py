"""Long polling acknowledges what is durable and nothing else."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from bot.channels.base import POLL_LEASE_S, DeliveryRetry
from bot.channels.telegram.errors import PollConflict
from bot.channels.telegram.groups import BotIdentity
from bot.channels.telegram.polling import BACKOFF_MAX_S, CONFLICT_S, RENEW_S, STANDBY_S, Poller, next_offset
from storage.clock import ManualClock
from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.records import NewInboxItem
from tests.bot.rig import build_rig
from tests.contracts.channels import MemoryInlet
from tests.virtual_time import run_virtually

BOT = BotIdentity(123456, "kefu_bot")


class Updates:
    """A getUpdates that answers by script: bodies, and errors in between; then it holds the poll open."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[int | None] = []

    async def get_updates(self, offset: int | None) -> bytes:
        self.asked.append(offset)
        if not self.answers:
            await asyncio.sleep(1e6)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def body(*numbers: int) -> bytes:
    return json.dumps({"ok": True, "result": [{"update_id": number, "message": {}} for number in numbers]}).encode()


def poller(updates: Updates, inlet: MemoryInlet) -> Poller:
    return Poller(updates, BOT, inlet)  # type: ignore[arg-type]


async def poll_for(seconds: float, updates: Updates, inlet: MemoryInlet) -> None:
    try:
        async with asyncio.timeout(seconds):
            await poller(updates, inlet).run()
    except TimeoutError:
        return


def test_the_offset_follows_what_was_accepted() -> None:
    """Each poll asks beyond what is durable; the first of a run asks from where the last run ended."""
    updates, inlet = Updates(body(7, 8), body(9)), MemoryInlet(stored_offset=7)
    run_virtually(poll_for(60, updates, inlet))
    assert updates.asked == [7, 9, 10]
    assert [item.event_id for item in inlet.accepted] == ["7", "8", "9"]


def test_while_the_database_is_away_nothing_is_acknowledged() -> None:
    """What could not be stored is asked for again, with longer and longer pauses."""

    class Away(MemoryInlet):
        async def accept(self, items: Sequence[NewInboxItem], offset: int | None = None) -> None:
            raise DatabaseUnavailable("away")

    updates, inlet = Updates(*[body(7)] * 20), Away(stored_offset=7)
    run_virtually(poll_for(4 * BACKOFF_MAX_S, updates, inlet))
    assert set(updates.asked) == {7}
    assert 6 <= len(updates.asked) <= 12


def test_another_poller_is_told_and_not_fought() -> None:
    """A 409 is for the operator: it is tried again slowly, for ever."""
    updates = Updates(*[PollConflict("409")] * 100)
    run_virtually(poll_for(10 * CONFLICT_S - 1, updates, MemoryInlet()))
    assert len(updates.asked) == 10


def test_a_network_that_fails_is_waited_for() -> None:
    """Pauses double up to a limit, a time that Telegram names is kept, and a success begins anew."""
    updates = Updates(DeliveryRetry("network"), DeliveryRetry("busy", 40.0), body(1), DeliveryRetry("network"), body(2))
    inlet = MemoryInlet()
    run_virtually(poll_for(42, updates, inlet))
    assert [item.event_id for item in inlet.accepted] == ["1", "2"]


def test_who_may_not_poll_stands_by() -> None:
    """Without the right to poll nothing is asked of Telegram; it is tried for again every few seconds."""
    updates, inlet = Updates(body(1)), MemoryInlet(may_poll=False)
    run_virtually(poll_for(3 * STANDBY_S + 1, updates, inlet))
    assert updates.asked == []


def test_the_right_to_poll_is_kept_during_a_poll() -> None:
    """While Telegram holds a poll open the lease is renewed, in time for one renewal to fail; once it is lost, the poll is left."""

    class Counting(MemoryInlet):
        held = 0

        async def hold_poll(self) -> bool:
            self.held += 1
            return self.held < 4

    updates, inlet = Updates(), Counting()
    run_virtually(poll_for(3 * RENEW_S + STANDBY_S / 2, updates, inlet))
    assert (updates.asked, inlet.held) == ([None], 5)
    assert 2 * RENEW_S < POLL_LEASE_S


def test_nonsense_is_stored_and_passed_by() -> None:
    """An update that nobody can read is accepted with the others, and the next poll asks beyond it."""
    odd = b'{"ok": true, "result": [{"update_id": 5, "message": {"text": 1e999}}, {"update_id": 6, "x": nonsense}, {"update_id": 7}]}'
    updates, inlet = Updates(odd), MemoryInlet()
    run_virtually(poll_for(5, updates, inlet))
    assert updates.asked[-1] == 8
    assert len(inlet.accepted) >= 2


@pytest.mark.parametrize(("numbers", "expected"), [([], None), ([None], None), ([4, None, 6], 7), ([6, None], 7)])
def test_the_next_offset_is_behind_the_last_number(numbers: list[int | None], expected: int | None) -> None:
    """Updates without a number do not hold the others up."""
    assert next_offset([(number, b"") for number in numbers]) == expected


async def test_one_of_two_processes_polls(database: Database, clock: ManualClock) -> None:
    """The right to poll is a lease in the database: the second process gets it when the first gives it back or falls silent."""
    first, second = (await build_rig(database)).inbox, (await build_rig(database)).inbox
    assert await first.hold_poll()
    assert not await second.hold_poll()
    await first.release_poll()
    assert await second.hold_poll()
    assert not await first.hold_poll()
    clock.advance(round(POLL_LEASE_S * 1000) + 1)
    assert await first.hold_poll()
