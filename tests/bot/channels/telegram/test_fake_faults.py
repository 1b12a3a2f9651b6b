"""What goes wrong at the fake Bot API: limits, lost responses, errors."""

import httpx2
import pytest

from bot.channels.telegram.fake_faults import Fault, FaultKind
from bot.channels.telegram.fake_limits import Limits
from tests.bot.channels.telegram.fake_calls import CHAT, Time, running, send


async def test_429_says_when_to_come_back() -> None:
    """A refused call carries `retry_after` in the body and as a header; coming back earlier is a violation."""
    time = Time()
    async with running(clock=time, limits=Limits(chat_burst=1)) as bot:
        await send(bot)
        response = await bot.http.post(bot.url("sendMessage"), json={"chat_id": CHAT, "text": "x"})
        assert (response.status_code, response.headers["retry-after"], response.json()["parameters"]) == (429, "1", {"retry_after": 1})
        time.now += 0.5
        assert (await bot.error("sendMessage", chat_id=CHAT, text="x")) == "429 Too Many Requests: retry after 2"
        assert [violation.method for violation in bot.telegram.violations()] == ["sendmessage"]


@pytest.mark.parametrize(
    ("kind", "shown", "error"),
    [
        (FaultKind.LOST, 1, httpx2.RemoteProtocolError),
        (FaultKind.TRUNCATED, 1, httpx2.RemoteProtocolError),
        (FaultKind.HANG, 1, httpx2.ReadTimeout),
        (FaultKind.BROKEN, 0, httpx2.RemoteProtocolError),
        (FaultKind.LATE, 0, httpx2.RemoteProtocolError),
        (FaultKind.LATE_HANG, 0, httpx2.ReadTimeout),
    ],
)
async def test_responses_that_never_come(kind: FaultKind, shown: int, error: type[Exception]) -> None:
    """The bot cannot see whether a call took effect; the screen can, and late calls take effect when they are let."""
    async with running() as bot:
        bot.telegram.say("hi")
        bot.telegram.faults.script("sendMessage", Fault(kind, after_s=0))
        with pytest.raises(error):
            await bot.http.post(bot.url("sendMessage"), json={"chat_id": CHAT, "text": "x"}, timeout=0.05)
        assert len(bot.telegram.screen()) == 1 + shown
        late = bot.telegram.settle()
        assert len(bot.telegram.screen()) == 1 + shown + late
        await send(bot)


@pytest.mark.parametrize(
    ("fault", "code", "shown"),
    [
        (Fault(FaultKind.BUSY, 600), 429, 0),
        (Fault(FaultKind.ERROR, status=500), 500, 0),
        (Fault(FaultKind.ERROR_HTML, status=502), 502, 0),
        (Fault(FaultKind.UNAUTHORIZED), 401, 0),
        (Fault(FaultKind.BLOCKED), 403, 0),
        (Fault(FaultKind.SLOW, 0.01), 200, 1),
    ],
)
async def test_responses_that_are_errors(fault: Fault, code: int, shown: int) -> None:
    """Errors come with their status and have no effect; slow answers come and have one."""
    async with running() as bot:
        bot.telegram.say("hi")
        bot.telegram.faults.script("sendMessage", fault)
        response = await bot.http.post(bot.url("sendMessage"), json={"chat_id": CHAT, "text": "x"})
        assert (response.status_code, len(bot.telegram.screen())) == (code, 1 + shown)


async def test_an_edit_may_say_not_modified_and_be_shown() -> None:
    """The fault "not modified" shows the text: it is what a repeated edit is told whose first try arrived."""
    async with running() as bot:
        sent = await send(bot, "a")
        bot.telegram.faults.script("editMessageText", FaultKind.NOT_MODIFIED)
        assert "not modified" in await bot.error("editMessageText", chat_id=CHAT, message_id=sent, text="b")
        assert bot.telegram.screen()[-1].text == "b"


async def test_a_server_that_is_down_and_up_again() -> None:
    """While the server is down connections are refused; afterwards it knows everything it knew."""
    async with running() as bot:
        bot.telegram.say("hi")
        await bot.telegram.down()
        with pytest.raises(httpx2.TransportError):
            await bot.result("getUpdates")
        await bot.telegram.up()
        assert len(await bot.result("getUpdates")) == 1


async def test_a_server_that_goes_down_in_the_middle_of_a_call() -> None:
    """The fault "down" breaks the call without an effect and refuses connections for a while."""
    async with running() as bot:
        await send(bot)
        bot.telegram.faults.script("sendMessage", Fault(FaultKind.DOWN, after_s=0.01))
        with pytest.raises(httpx2.TransportError):
            await bot.result("sendMessage", chat_id=CHAT, text="x")
        while bot.telegram.is_up:
            await bot.telegram.changed()
        with pytest.raises(httpx2.ConnectError):
            await bot.result("getMe")
        while not bot.telegram.is_up:
            await bot.telegram.changed()
        await send(bot)
        assert len(bot.telegram.screen()) == 3
