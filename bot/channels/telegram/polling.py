"""Long polling: raw updates and the offset that confirms them are committed together, and only then asked beyond.

One process polls for a bot, and renews its lease while Telegram holds the poll open. Where several share a database, the others
stand by and take over when the lease ends. Another poller outside (409) is the operator's to find: it is told once a minute, and
nobody spins.
"""

import asyncio
from collections.abc import Sequence

import structlog

from bot.channels.base import DeliveryError, DeliveryRetry, Inlet, UnparsableEvent
from bot.channels.telegram.api import PollConflict, TelegramApi
from bot.channels.telegram.groups import BotIdentity
from bot.channels.telegram.parse import inbox_item, split_batch
from storage.errors import ClaimLost, StorageError

RENEW_S = 5.0  # how often the right to poll is renewed during a poll
STANDBY_S = 5.0  # how often a process that may not poll asks again
CONFLICT_S = 10.0  # Telegram itself delays repeated conflicts
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0

log = structlog.get_logger(__name__)


class Poller:
    """Polls until cancelled."""

    def __init__(self, api: TelegramApi, bot: BotIdentity, inlet: Inlet) -> None:
        self._api = api
        self._bot = bot
        self._inlet = inlet
        self._failures = 0

    async def run(self) -> None:
        """Raises ChannelRefused when the token is no good any more."""
        while True:
            try:
                await asyncio.sleep(await self.poll())
            except PollConflict:
                log.warning(
                    "telegram.conflict", remedy="another program polls with this token: stop it, or get a new token from @BotFather"
                )
                await asyncio.sleep(CONFLICT_S)
            except (DeliveryError, StorageError, UnparsableEvent) as error:
                await self._back_off(error)

    async def poll(self) -> float:
        """Fetch what is new and hand it in once; return how long to wait before the next time. Raises DeliveryError and StorageError."""
        if not await self._inlet.hold_poll():
            return STANDBY_S
        try:
            batch = split_batch(await self._fetch())
            if batch:
                await self._inlet.accept([inbox_item(raw, self._bot) for _, raw in batch], next_offset(batch))
        except ClaimLost:
            log.info("telegram.standby", reason="another process polls by now")
        self._failures = 0
        return 0.0

    async def _fetch(self) -> bytes:
        """Wait for what is new, and keep the right to it. Raises ClaimLost once another process polls."""
        fetching = asyncio.ensure_future(self._api.get_updates(await self._inlet.offset()))
        try:
            while not (await asyncio.wait({fetching}, timeout=RENEW_S))[0]:
                if not await self._inlet.hold_poll():
                    raise ClaimLost("another process polls this account now")
            return fetching.result()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def _back_off(self, error: Exception) -> None:
        asked = error.after_s if isinstance(error, DeliveryRetry) and error.after_s else 0.0
        delay_s = max(asked, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**self._failures))
        self._failures += 1
        log.warning("telegram.poll_failed", reason=str(error), retry_in_s=round(delay_s, 1))
        await asyncio.sleep(delay_s)


def next_offset(batch: Sequence[tuple[int | None, bytes]]) -> int | None:
    """Return the offset that confirms a batch: behind its last update that has a number, None when none has one."""
    numbers = [number for number, _ in batch if number is not None]
    return numbers[-1] + 1 if numbers else None
