"""What an answer of Telegram means for a delivery: one table, one pure function. Nobody else reads Telegram's descriptions.

`Refusal`, `NotSent` and `Unanswered` are what the transport raises. They are errors of the library, so that they pass
through it; nothing beyond `outcome_of` sees them.

    DeliveryRetry            DeliveryRefused
    ├── TokenRefused         ├── EntitiesRefused   send it without formatting
    └── PollConflict         ├── TextTooLong       send it in parts
                             ├── TextEmpty         nothing that can be shown
                             ├── MessageGone       nothing is left that could be edited
                             ├── NotModified       it stands there already: a success
                             └── MethodUnknown     the server is older than this method
"""

import re
from typing import Final

from telegram.error import NetworkError, TelegramError

from bot.channels.base import DeliveryError, DeliveryMoved, DeliveryRefused, DeliveryRetry, DeliveryUnknown

# Methods and parameters that a server may not know yet: there, a bare "Not Found" does not speak of the token
NEWER_METHODS: Final = frozenset({"sendMessageDraft", "sendRichMessage", "sendRichMessageDraft"})
_MAX_DESCRIPTION: Final = 200


class TokenRefused(DeliveryRetry):
    """Telegram does not know the token any more. With a new one the same call goes through."""


class AddressUnknown(TokenRefused):
    """404: Telegram does not know the token, or what answers at this address is no Bot API."""


class PollConflict(DeliveryRetry):
    """Somebody else polls with this token, or a webhook is set."""


class EntitiesRefused(DeliveryRefused):
    """Telegram does not take the formatting."""


class TextTooLong(DeliveryRefused):
    """The text, or the caption, is longer than Telegram allows."""


class TextEmpty(DeliveryRefused):
    """Telegram finds nothing in the text that it could show."""


class MessageGone(DeliveryRefused):
    """The message that was to be edited is deleted, or not ours."""


class NotModified(DeliveryRefused):
    """The message already looks like that."""


class MethodUnknown(DeliveryRefused):
    """This server has no such method."""


class Refusal(TelegramError):
    """Telegram answered, and not with a result."""

    def __init__(self, method: str, code: int, description: str, *, after_s: float | None = None, moved_to: str = "") -> None:
        super().__init__(f"{code} {description}")
        self.method = method
        self.code = code
        self.description = description[:_MAX_DESCRIPTION]
        self.after_s = after_s
        self.moved_to = moved_to


class NotSent(NetworkError):
    """No connection: Telegram has not seen the request."""


class Unanswered(NetworkError):
    """The request went out and no readable answer came back."""


# The first line that fits counts; what fits none is refused.
_BAD_REQUESTS: Final[tuple[tuple[re.Pattern[str], type[DeliveryRefused]], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), outcome)
    for pattern, outcome in (
        (r"message is not modified|MESSAGE_NOT_MODIFIED", NotModified),
        (r"message to edit not found|message can't be edited|MESSAGE_ID_INVALID", MessageGone),
        (r"message is too long|caption is too long|MESSAGE_TOO_LONG|CAPTION_TOO_LONG", TextTooLong),
        (r"text is empty|text must be non-empty|MESSAGE_EMPTY", TextEmpty),
        (r"can't parse (entities|MessageEntity)|receive an entity|entity begin|ENTIT(Y|IES)_|can't parse rich message", EntitiesRefused),
    )
)


def outcome_of(error: TelegramError) -> DeliveryError:
    """Return what an error means: above all, how far the call may have come."""
    match error:
        case Refusal():
            return _refused(error)
        case NotSent():
            return DeliveryRetry(error.message)
        case Unanswered():
            return DeliveryUnknown(error.message)
        case _:
            return DeliveryUnknown(f"the library could not read the answer ({type(error).__name__})")


def _refused(error: Refusal) -> DeliveryError:  # noqa: PLR0911 - one line for each status
    said = f"Telegram said: {error.code} {error.description}"
    if error.moved_to:
        return DeliveryMoved(said, error.moved_to)
    match error.code:
        case 400:
            return _bad_request(error.description)(said)
        case 401:
            return TokenRefused(said)
        case 404:
            return _not_found(error)(said)
        case 409:
            return PollConflict(said)
        case 429:
            return DeliveryRetry(said, error.after_s)
        case code if code >= 500:  # a gateway may time out behind the effect
            return DeliveryUnknown(said)
        case _:  # 403: blocked, kicked, deactivated, never started; 413: too big
            return DeliveryRefused(said)


def _bad_request(description: str) -> type[DeliveryRefused]:
    return next((outcome for pattern, outcome in _BAD_REQUESTS if pattern.search(description)), DeliveryRefused)


def _not_found(error: Refusal) -> type[DeliveryError]:
    """A server that does not know the token says so too, in the same words."""
    is_method = "method not found" in error.description.lower() or error.method in NEWER_METHODS
    return MethodUnknown if is_method else AddressUnknown
