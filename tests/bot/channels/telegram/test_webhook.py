"""The webhook says 200 only for what is durable, and only to Telegram."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from bot.channels.telegram.channel import derived_secret
from bot.channels.telegram.groups import BotIdentity
from bot.channels.telegram.webhook import AWAY_S, BUSY_S, Webhook
from storage.errors import DatabaseUnavailable
from tests.contracts.channels import MemoryInlet
from tests.sizes import record_proof, size

BOT = BotIdentity(123456, "kefu_bot")
SECRET = derived_secret("123456:" + "A" * 35)
HEADER = "X-Telegram-Bot-Api-Secret-Token"
UPDATE = json.dumps({"update_id": 7, "message": {"message_id": 1, "chat": {"id": 5, "type": "private"}, "text": "hello"}}).encode()
FORGERIES = size("forged_webhook_requests", small=300, proof=10_000)


class AwayInlet(MemoryInlet):
    """A database that does not answer."""

    async def accept(self, items: object, offset: int | None = None) -> None:
        raise DatabaseUnavailable("away")


def webhook(inlet: MemoryInlet, *, max_bytes: int = 10_000, max_waiting: int = 4, max_backlog: int = 100) -> TestClient:
    hook = Webhook(inlet, BOT, SECRET, max_bytes=max_bytes, max_waiting=max_waiting, max_backlog=max_backlog, clock=lambda: 0.0)
    return TestClient(hook.application("/telegram"))


def post(client: TestClient, body: bytes = UPDATE, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    answer = client.post("/telegram", content=body, headers={HEADER: SECRET} if headers is None else dict(headers))
    return answer.status_code, answer.headers.get("Retry-After", "")


def test_an_update_is_stored_before_it_is_acknowledged() -> None:
    """200 means that the inbox has the raw bytes."""
    inlet = MemoryInlet()
    assert post(webhook(inlet)) == (200, "")
    assert [(item.event_id, item.raw) for item in inlet.accepted] == [("7", UPDATE)]


def test_while_the_database_is_away_telegram_keeps_the_update() -> None:
    """What could not be stored is answered 503 with a time to come back."""
    assert post(webhook(AwayInlet())) == (503, str(AWAY_S))


def test_a_backlog_is_left_with_telegram() -> None:
    """Beyond so many unanswered messages nothing more is taken."""
    inlet = MemoryInlet()
    client = webhook(inlet, max_backlog=0)
    assert post(client) == (503, str(AWAY_S))
    assert inlet.accepted == []


def test_too_many_at_the_same_time_are_asked_to_come_back() -> None:
    """Requests that would only wait for the database are refused at once."""
    assert post(webhook(MemoryInlet(), max_waiting=0)) == (503, str(BUSY_S))


def test_a_giant_body_is_cut() -> None:
    """Nobody can fill the memory; what is left is stored, or Telegram would repeat it for a day and hold back its chat."""
    inlet = MemoryInlet()
    assert post(webhook(inlet, max_bytes=100), b"x" * 101) == (200, "")
    assert inlet.accepted[0].raw == b"x" * 100


def test_nonsense_of_telegram_is_stored_all_the_same() -> None:
    """What carries the secret and cannot be read is kept for people to see, not sent back for ever."""
    inlet = MemoryInlet()
    assert post(webhook(inlet), b"[1, 2") == (200, "")
    assert inlet.accepted[0].raw == b"[1, 2"


def test_other_methods_and_paths_do_not_exist() -> None:
    """There is one route."""
    client = webhook(MemoryInlet())
    assert client.get("/telegram").status_code == 405
    assert client.post("/metrics").status_code == 404


def test_there_is_no_webhook_without_a_secret() -> None:
    """Forgetting the secret is a mistake of the program, not an open door."""
    with pytest.raises(ValueError, match="anybody"):
        Webhook(MemoryInlet(), BOT, "", max_bytes=1, max_waiting=1, max_backlog=1, clock=lambda: 0.0)


wrong_secrets = st.one_of(
    st.binary(max_size=100),
    st.text(alphabet="0123456789abcdef", min_size=0, max_size=64).map(str.encode),
    st.sampled_from([SECRET[:-1], SECRET + "0", SECRET.upper(), f" {SECRET} x", "é" + SECRET[1:]]).map(lambda text: text.encode("latin-1")),
).filter(lambda secret: secret.strip(b" \t") != SECRET.encode() and not set(secret) & {0, 10, 13})


@settings(max_examples=FORGERIES)
@given(secret=wrong_secrets, body=st.binary(max_size=50) | st.just(UPDATE), times=st.integers(0, 2))
def test_forged_requests_are_refused(secret: bytes, body: bytes, times: int) -> None:
    """Without the secret, with a wrong one, with bytes that are no text, or twice: 401, and nothing is stored."""
    inlet = MemoryInlet()
    sent = [secret] if times == 1 else [SECRET.encode(), secret] if times == 2 else []
    headers = [(HEADER.encode(), value) for value in sent]
    scope_headers = [(b"host", b"test"), *headers]
    status = raw_post(inlet, body, scope_headers)
    assert status == 401
    assert inlet.accepted == []


def test_forgeries_are_counted() -> None:
    """The number of forged requests that the proof above tried is written down."""
    record_proof("forged webhook requests", seed="derandomized", size=FORGERIES, result="all refused with 401, nothing stored")


def raw_post(inlet: MemoryInlet, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Call the application itself: HTTP clients would not send such headers."""
    import asyncio

    hook = Webhook(inlet, BOT, SECRET, max_bytes=10_000, max_waiting=4, max_backlog=100, clock=lambda: 0.0)
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/telegram",
        "headers": headers,
        "query_string": b"",
        "server": ("test", 80),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    asyncio.run(hook.application("/telegram")(scope, receive, send))  # type: ignore[arg-type]
    return statuses[0]
