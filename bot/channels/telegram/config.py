"""How the Telegram channel works: frozen values, made from the settings by `channel.telegram_channel`."""

from dataclasses import dataclass, field

from bot.channels.telegram.groups import ParseRules


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Where Telegram sends updates to, if it does not wait to be polled."""

    url: str  # public https address
    secret: str = field(repr=False)  # comes back in a header of each request
    host: str  # address to listen on, behind a proxy that ends TLS
    port: int
    max_bytes: int  # of one update
    max_connections: int = 40  # requests at the same time
    backlog: int = 5000  # unanswered events from which on Telegram is asked to come back later


@dataclass(frozen=True, slots=True)
class TelegramConfig:
    """One bot."""

    account: str  # the bot's own id: the part of the token that is no secret
    rules: ParseRules
    webhook: WebhookConfig | None = None  # None = long polling
    drafts: bool = True  # previews as drafts in private chats, where the server has them
    rich_messages: bool = False  # answers as rich messages, where the server has them
    preview_s: float = 1.0  # seconds between two previews of an answer
    timeout_s: float = 15.0  # seconds that one request may take
    file_bytes: int = 200_000  # of a text file that is read
