"""What `kefu doctor` says about Telegram: whether the settings can work, and, asked to go deep, whose token it is."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from bot.channels.base import ChannelRefused, DeliveryError
from bot.channels.telegram.api import TelegramApi
from bot.channels.telegram.channel import TOKEN
from bot.cli.findings import Finding, error, ok, warning
from bot.cli.progress import waiting
from bot.ratelimit import RateLimiter, Rates
from bot.settings import Settings
from bot.settings_sections import TelegramSection

UNLIMITED = Rates(0, 0, 0, 0)


def check_telegram(settings: Settings, *, deep: bool = False) -> Sequence[Finding]:
    """Tell whether the token can be one. It is sent to Telegram only if `deep`."""
    telegram = settings.telegram
    if telegram.token is None:
        return [ok("telegram", "no token is set, so this channel is off; @BotFather gives one for TELEGRAM_BOT_TOKEN")]
    token = telegram.token.get_secret_value()
    if TOKEN.fullmatch(token) is None:
        return [error("telegram", "the token has not the shape of one", "Copy it again from @BotFather: digits, a colon, 35 characters.")]
    findings = [*_check_addresses(telegram)]
    if deep:
        with waiting("Asking Telegram"):
            return [asyncio.run(_ask(telegram, token)), *findings]
    return [ok("telegram", f"the token has the right shape{_way(telegram)}; `kefu doctor --deep` asks whose it is"), *findings]


async def _ask(telegram: TelegramSection, token: str) -> Finding:
    """Ask for the bot's name, which changes nothing."""
    api = TelegramApi(
        token, base_url=telegram.base_url, timeout_s=telegram.timeout_s, poll_s=0, limiter=RateLimiter(UNLIMITED), connections=1
    )
    try:
        bot = await api.open()
    except ChannelRefused as refused:
        return error("telegram", f"{telegram.base_url}: {refused}", refused.hint)
    except DeliveryError as failure:
        return error("telegram", f"{telegram.base_url}: {failure}", "Check the network, the proxy and [telegram] base_url.")
    finally:
        await api.close()
    return ok("telegram", f"the token is that of @{bot.username}{_way(telegram)}")


def _way(telegram: TelegramSection) -> str:
    if telegram.webhook_url is None:
        return f"; updates are fetched from {telegram.base_url}"
    return f"; updates come to {telegram.webhook_url}, which a proxy passes on to {telegram.webhook_host}:{telegram.webhook_port}"


def _check_addresses(telegram: TelegramSection) -> Sequence[Finding]:
    findings: list[Finding] = []
    if _is_in_the_clear(telegram.base_url):
        words = "[telegram] base_url sends the token over the network in the clear"
        findings.append(warning("telegram", words, "Use https://, or a server on this machine."))
    if telegram.webhook_url and not telegram.webhook_url.startswith("https://"):
        words = "[telegram] webhook_url is no https:// address"
        findings.append(warning("telegram", words, "Telegram sends to https:// only."))
    return findings


def _is_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}
