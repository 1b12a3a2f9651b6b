"""Telegram as a channel: contact, receiving, previews and delivery, each in a module of its own; this one puts them together.

Delivery. An answer is a number of messages. Each of them is first a placeholder, whose id is written down, and then gets its
text by an edit. An edit can be repeated without harm, so whatever happens in between costs at most a placeholder without a
text, never an answer that stands there twice. In private chats the previews are a draft, and the placeholder comes after it.
"""

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

import structlog

from bot.channels.base import (
    ChannelCapabilities,
    ChannelRefused,
    DeliveryError,
    DeliveryMoved,
    DeliveryRefused,
    DeliveryRetry,
    Document,
    Inlet,
    OutgoingReply,
    PlaceholderSlot,
    PressOutcome,
    Progress,
    ReplyStream,
    ReplyTarget,
)
from bot.channels.telegram.api import EntitiesRefused, MessageGone, MethodUnknown, TelegramApi, TextTooLong
from bot.channels.telegram.config import TelegramConfig, WebhookConfig
from bot.channels.telegram.files import read_text_file
from bot.channels.telegram.groups import BotIdentity, GroupMode, ParseRules
from bot.channels.telegram.menu import set_menu
from bot.channels.telegram.parse import parse_update
from bot.channels.telegram.polling import Poller
from bot.channels.telegram.render import Part, plain, render
from bot.channels.telegram.reply_stream import PLACEHOLDER, Painters
from bot.channels.telegram.webhook import Webhook
from bot.http_server import HttpServer
from bot.ratelimit import RateLimiter, Rates
from bot.rating import rating_buttons
from bot.settings import Settings
from dialogue.messages import ButtonPress, ButtonRows, IncomingMessage
from storage.records import InboxRecord

T = TypeVar("T")

TOKEN: Final = re.compile(r"\d{5,16}:[A-Za-z0-9_-]{30,64}")
CAPTION_CHARS = 1024  # Telegram's limit for the text under a file
RICH_CHARS = 32_768  # Telegram's limit for a rich message
LONGEST_WAIT_S = 3.0  # for a slot, while a delivery is under way
CONTACT_FIRST_S = 1.0
CONTACT_MAX_S = 60.0
BOT_SETTINGS = "Compare [telegram] in the settings with what @BotFather shows."
WEBHOOK_SETTINGS = "Compare [telegram] webhook_url and webhook_secret with what Telegram takes: a public https:// address."
NO_CONTACT = "Check the network, a proxy, and [telegram] base_url; it is tried again until Telegram answers."

log = structlog.get_logger(__name__)


class TelegramChannel:
    """One bot on Telegram."""

    name = "telegram"

    def __init__(self, api: TelegramApi, config: TelegramConfig) -> None:
        self.account = config.account
        self.capabilities = ChannelCapabilities(
            resend_is_safe=True,
            timeout_s=2 * config.timeout_s,
            settle_s=config.timeout_s,
            has_buttons=True,
            sends_files=True,
        )
        self._api = api
        self._config = config
        self._bot: BotIdentity | None = None
        self._painters = Painters(api, drafts=config.drafts, every_s=config.preview_s, settle_s=config.timeout_s)
        self._rich = config.rich_messages
        self._menu: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Ask who we are until Telegram answers. Raises ChannelRefused."""
        self._bot = await self._until_contact(self._api.open)
        log.info("telegram.contact", bot=self._bot.username, webhook=self._config.webhook is not None)
        self._menu = asyncio.create_task(set_menu(self._api))

    async def close(self) -> None:
        if self._menu is not None:
            self._menu.cancel()
        await self._api.close()

    async def receive(self, inlet: Inlet) -> None:
        """Poll, or listen to the webhook, until cancelled. Raises ChannelRefused when the token is no good any more."""
        if self._config.webhook is None:
            await self._until_contact(self._api.delete_webhook)
            await Poller(self._api, self._identity, inlet).run()
        else:
            await self._listen(inlet, self._config.webhook)

    def parse(self, item: InboxRecord) -> IncomingMessage | ButtonPress | None:
        return parse_update(item, self._identity, self._config.rules)

    async def complete(self, message: IncomingMessage) -> IncomingMessage:
        if message.file is None:
            return message
        config = self._config
        text = await read_text_file(self._api, message.file, max_bytes=config.file_bytes, max_chars=config.rules.max_chars)
        return replace(message, quoted_text=text)

    def open_reply(self, target: ReplyTarget, slot: PlaceholderSlot) -> ReplyStream:
        return self._painters.begin(target, slot)

    async def deliver(self, reply: OutgoingReply, progress: Progress) -> None:
        if reply.document is not None:
            await self._deliver_document(reply, reply.document, progress)
        elif not (self._rich and await self._deliver_rich(reply, progress)):
            await self._deliver_parts(reply, progress)

    async def show_outcome(self, press: ButtonPress, outcome: PressOutcome) -> None:
        chat = press.key.chat
        await self._api.answer_press(press.press_ref)
        if outcome.text is not None:
            part = render(outcome.text)[0]
            await self._api.edit(chat, press.message_ref, part.text, part.entities, buttons=outcome.buttons or ())
        elif outcome.buttons is not None:
            await self._api.edit_buttons(chat, press.message_ref, outcome.buttons)

    async def _deliver_parts(self, reply: OutgoingReply, progress: Progress) -> None:
        parts = render(reply.row.text)
        first = max(0, len(reply.row.chunks) - 1)  # those before are finished: a part is begun when the one before has its text
        for index in range(first, len(parts)):
            is_last = index == len(parts) - 1
            fill = partial(self._fill, reply, parts[index], self._buttons(reply) if is_last else (), is_only=len(parts) == 1)
            try:
                await self._in_place(reply, index, progress, fill)
            except (DeliveryRetry, DeliveryMoved):
                if progress.is_repeat and index < len(reply.row.chunks) < len(parts):
                    await progress.orphan()  # perhaps the next part was begun; the next attempt is no repeat and would not count it
                raise

    async def _deliver_document(self, reply: OutgoingReply, document: Document, progress: Progress) -> None:
        caption = plain(reply.row.text, limit=CAPTION_CHARS)[0].text
        await self._in_place(reply, 0, progress, lambda ref: self._api.edit_document(reply.conversation.chat, ref, document, caption))

    async def _deliver_rich(self, reply: OutgoingReply, progress: Progress) -> bool:
        """Deliver as one rich message; return whether the server took it."""
        row, chat, buttons = reply.row, reply.conversation.chat, self._buttons(reply)
        if len(row.text) > RICH_CHARS or len(row.chunks) > 1:
            return False
        try:
            await self._in_place(reply, 0, progress, lambda ref: self._api.rich_edit(chat, ref, row.text, buttons=buttons))
        except (MethodUnknown, EntitiesRefused, TextTooLong) as error:
            log.info("telegram.no_rich_message", outbox_id=row.id, reason=str(error))
            self._rich = not isinstance(error, MethodUnknown)
            return False
        return True

    async def _in_place(self, reply: OutgoingReply, index: int, progress: Progress, fill: Callable[[str], Awaitable[None]]) -> None:
        """Give part `index` its text. A message that somebody has deleted meanwhile is replaced once."""
        try:
            await fill(await self._place(reply, index, progress))
        except MessageGone:
            ref = await self._send_placeholder(reply, index)
            await progress.record(index, ref)
            await fill(ref)

    async def _place(self, reply: OutgoingReply, index: int, progress: Progress) -> str:
        """Return the message that part `index` belongs into; what has none yet gets a placeholder, which is written down.

        A part that would have to wait long is left for later, before anything of it is on its way.
        """
        row = reply.row
        ref = row.chunks[index] if index < len(row.chunks) else row.placeholder_ref if index == 0 else ""
        if not ref and progress.is_repeat and index == len(row.chunks):
            await progress.orphan()
        wait_s = self._api.wait_s(reply.conversation.chat)
        if wait_s > LONGEST_WAIT_S:
            raise DeliveryRetry("this chat takes no message now", wait_s)
        if index < len(row.chunks):
            return ref
        ref = ref or await self._send_placeholder(reply, index)
        await progress.record(index, ref)
        return ref

    async def _send_placeholder(self, reply: OutgoingReply, index: int) -> str:
        reply_to = reply.row.reply_to if index == 0 else ""
        return await self._api.send(reply.conversation.chat, PLACEHOLDER, (), reply_to=reply_to)

    async def _fill(self, reply: OutgoingReply, part: Part, buttons: ButtonRows, ref: str, *, is_only: bool) -> None:
        """Edit. What Telegram does not take as formatted goes out as it was written; one part of several with its addresses written out."""
        chat = reply.conversation.chat
        try:
            await self._api.edit(chat, ref, part.text, part.entities, buttons=buttons)
        except EntitiesRefused:
            log.warning("telegram.formatting_refused", outbox_id=reply.row.id)
            originals = plain(reply.row.text)
            text = originals[0].text if is_only and len(originals) == 1 else part.written_out()
            await self._api.edit(chat, ref, text, (), buttons=buttons)

    def _buttons(self, reply: OutgoingReply) -> ButtonRows:
        if reply.extras.is_rateable and reply.row.turn_id is not None:
            return rating_buttons(reply.row.turn_id)
        return reply.extras.buttons

    @property
    def _identity(self) -> BotIdentity:
        if self._bot is None:
            raise RuntimeError("nothing is received or parsed before the channel is open")
        return self._bot

    async def _listen(self, inlet: Inlet, config: WebhookConfig) -> None:
        webhook = Webhook(
            inlet,
            self._identity,
            config.secret,
            max_bytes=config.max_bytes,
            max_waiting=2 * config.max_connections,
            max_backlog=config.backlog,
            clock=time.monotonic,
        )
        server = HttpServer(webhook.application(urlsplit(config.url).path or "/"), config.host, config.port, name="telegram webhook")
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run())
            call = partial(self._api.set_webhook, config.url, config.secret, config.max_connections)
            await self._until_contact(call, compare=WEBHOOK_SETTINGS)

    async def _until_contact(self, call: Callable[[], Awaitable[T]], *, compare: str = BOT_SETTINGS) -> T:
        """Return what `call` returns, however long Telegram cannot be reached. `compare` is the remedy for a refusal."""
        delay_s = CONTACT_FIRST_S
        while True:
            try:
                return await call()
            except DeliveryRefused as error:
                raise ChannelRefused(f"Telegram refused: {error}.", compare) from None
            except DeliveryError as error:
                place = {"base_url": self._api.base_url, "remedy": NO_CONTACT}
                log.warning("telegram.no_contact", reason=str(error), retry_in_s=delay_s, **place)
            await asyncio.sleep(delay_s)
            delay_s = min(CONTACT_MAX_S, 2 * delay_s)


def telegram_channel(settings: Settings) -> TelegramChannel | None:
    """Return the channel that the settings describe; None when there is no token. Raises ChannelRefused for a malformed one."""
    telegram = settings.telegram
    if telegram.token is None:
        return None
    token = telegram.token.get_secret_value()
    if TOKEN.fullmatch(token) is None:
        raise ChannelRefused(
            "The Telegram token is malformed: it looks like 123456789:AAE… with 35 characters behind the colon.",
            "Copy it whole from @BotFather into TELEGRAM_BOT_TOKEN.",
        )
    limiter = RateLimiter(Rates(telegram.chat_per_s, telegram.chat_burst, telegram.group_per_min, telegram.overall_per_s))
    api = TelegramApi(token, base_url=telegram.base_url, timeout_s=telegram.timeout_s, poll_s=telegram.poll_s, limiter=limiter)
    return TelegramChannel(api, _config(settings, token))


def _config(settings: Settings, token: str) -> TelegramConfig:
    telegram = settings.telegram
    groups = {chat: GroupMode(mode) for chat, mode in telegram.groups.items()}
    return TelegramConfig(
        account=token.partition(":")[0],
        rules=ParseRules(max_chars=settings.limits.message_chars, group_mode=GroupMode(telegram.group_mode), groups=groups),
        webhook=_webhook(settings, token),
        drafts=telegram.drafts,
        rich_messages=telegram.rich_messages,
        preview_s=telegram.preview_s,
        timeout_s=telegram.timeout_s,
        file_bytes=telegram.file_bytes,
    )


def _webhook(settings: Settings, token: str) -> WebhookConfig | None:
    telegram = settings.telegram
    if telegram.webhook_url is None:
        return None
    given = telegram.webhook_secret
    return WebhookConfig(
        url=telegram.webhook_url,
        secret=given.get_secret_value() if given else derived_secret(token),
        host=telegram.webhook_host,
        port=telegram.webhook_port,
        max_bytes=settings.limits.event_bytes,
        backlog=telegram.webhook_backlog,
    )


def derived_secret(token: str) -> str:
    """Return a webhook secret that only holders of the token can know; the same in every process of this bot."""
    return hmac.new(token.encode(), b"kefu telegram webhook", "sha256").hexdigest()
