"""What each error of Telegram means."""

import pytest
from telegram.error import TelegramError

from bot.channels.base import DeliveryError, DeliveryMoved, DeliveryRefused, DeliveryRetry, DeliveryUnknown
from bot.channels.telegram.errors import (
    AddressUnknown,
    EntitiesRefused,
    MessageGone,
    MethodUnknown,
    NotModified,
    NotSent,
    PollConflict,
    Refusal,
    TextEmpty,
    TextTooLong,
    TokenRefused,
    Unanswered,
    outcome_of,
)

CASES: tuple[tuple[int, str, type[DeliveryError]], ...] = (
    (403, "Forbidden: bot was blocked by the user", DeliveryRefused),
    (403, "Forbidden: user is deactivated", DeliveryRefused),
    (403, "Forbidden: bot was kicked from the supergroup chat", DeliveryRefused),
    (403, "Forbidden: bot is not a member of the channel chat", DeliveryRefused),
    (403, "Forbidden: bot can't initiate conversation with a user", DeliveryRefused),
    (400, "Bad Request: chat not found", DeliveryRefused),
    (400, "Bad Request: not enough rights to send text messages to the chat", DeliveryRefused),
    (400, "Bad Request: have no rights to send a message", DeliveryRefused),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN", DeliveryRefused),
    (400, "Bad Request: TOPIC_CLOSED", DeliveryRefused),
    (400, "Bad Request: TOPIC_DELETED", DeliveryRefused),
    (400, "Bad Request: message thread not found", DeliveryRefused),
    (400, "Bad Request: something that nobody has seen yet", DeliveryRefused),
    (413, "Request Entity Too Large", DeliveryRefused),
    (400, "Bad Request: message is not modified: specified new message content and reply markup are exactly the same", NotModified),
    (400, "Bad Request: MESSAGE_NOT_MODIFIED", NotModified),
    (400, "Bad Request: message to edit not found", MessageGone),
    (400, "Bad Request: message can't be edited", MessageGone),
    (400, "Bad Request: MESSAGE_ID_INVALID", MessageGone),
    (400, "Bad Request: message is too long", TextTooLong),
    (400, "Bad Request: MESSAGE_TOO_LONG", TextTooLong),
    (400, "Bad Request: message caption is too long", TextTooLong),
    (400, "Bad Request: MEDIA_CAPTION_TOO_LONG", TextTooLong),
    (400, "Bad Request: message text is empty", TextEmpty),
    (400, "Bad Request: text must be non-empty", TextEmpty),
    (400, "Bad Request: can't parse entities: Unsupported start tag", EntitiesRefused),
    (400, "Bad Request: can't parse MessageEntity: Unsupported type specified", EntitiesRefused),
    (400, "Bad Request: receive an entity with incorrect length 0", EntitiesRefused),
    (400, "Bad Request: entity begins after the end of the text at UTF-16 offset 9", EntitiesRefused),
    (400, "Bad Request: entity beginning at UTF-16 offset 1 ends in a middle of a UTF-16 symbol at byte offset 3", EntitiesRefused),
    (400, "Bad Request: ENTITY_BOUNDS_INVALID", EntitiesRefused),
    (400, "Bad Request: ENTITIES_TOO_LONG", EntitiesRefused),
    (401, "Unauthorized", TokenRefused),
    (404, "Not Found", AddressUnknown),
    (404, "Not Found: method not found", MethodUnknown),
    (409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", PollConflict),
    (500, "Internal Server Error", DeliveryUnknown),
    (502, "Bad Gateway", DeliveryUnknown),
    (504, "Gateway Timeout", DeliveryUnknown),
)


@pytest.mark.parametrize(("code", "description", "expected"), CASES, ids=[f"{code} {description}"[:70] for code, description, _ in CASES])
def test_each_refusal_has_its_outcome(code: int, description: str, expected: type[DeliveryError]) -> None:
    """Status and description decide what may be done next, and the operator reads what Telegram said."""
    outcome = outcome_of(Refusal("sendMessage", code, description))
    assert type(outcome) is expected
    assert description in str(outcome)


@pytest.mark.parametrize("seconds", [1.0, 35.0, 600.0, 13_938.0])
def test_too_many_requests_name_their_time(seconds: float) -> None:
    """429 is a retry after exactly the time that Telegram asks for, however long."""
    outcome = outcome_of(Refusal("sendMessage", 429, "Too Many Requests", after_s=seconds))
    assert isinstance(outcome, DeliveryRetry)
    assert outcome.after_s == seconds


def test_a_migrated_chat_names_its_new_id() -> None:
    """A group that became a supergroup is a move, not a refusal."""
    outcome = outcome_of(Refusal("sendMessage", 400, "Bad Request: group chat was upgraded to a supergroup chat", moved_to="-1001"))
    assert isinstance(outcome, DeliveryMoved)
    assert outcome.chat == "-1001"


def test_a_newer_method_that_is_not_found_is_no_lost_token() -> None:
    """Servers answer a bare "Not Found" for methods that they do not know yet."""
    assert isinstance(outcome_of(Refusal("sendMessageDraft", 404, "Not Found")), MethodUnknown)


def test_before_and_after_the_request_went_out() -> None:
    """Without a connection nothing was accepted; without an answer nobody knows."""
    assert isinstance(outcome_of(NotSent("no connection")), DeliveryRetry)
    assert isinstance(outcome_of(Unanswered("no answer")), DeliveryUnknown)
    assert isinstance(outcome_of(TelegramError("anything else")), DeliveryUnknown)


def test_an_endless_description_is_cut() -> None:
    """What stands in logs and tables stays a sentence."""
    assert len(str(outcome_of(Refusal("sendMessage", 400, "x" * 10_000)))) < 300
