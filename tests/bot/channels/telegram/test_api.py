"""The Bot API against the fake server: what is sent, what comes back, what each failure means."""

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.channels.base import (
    ChannelRefused,
    DeliveryError,
    DeliveryMoved,
    DeliveryRefused,
    DeliveryRetry,
    DeliveryUnknown,
    Document,
    FileRefused,
)
from bot.channels.telegram.api import (
    EntitiesRefused,
    MessageGone,
    MethodUnknown,
    PollConflict,
    TelegramApi,
    TextTooLong,
    TokenRefused,
)
from bot.channels.telegram.channel import WEBHOOK_SETTINGS, TelegramChannel
from bot.channels.telegram.config import TelegramConfig
from bot.channels.telegram.fake_chats import Message
from bot.channels.telegram.fake_faults import Fault, FaultKind
from bot.channels.telegram.fake_limits import Limits
from bot.channels.telegram.fake_server import TOKEN, FakeTelegram
from bot.channels.telegram.groups import ParseRules
from bot.channels.telegram.render import Entity
from bot.logs import configure_logging
from bot.ratelimit import RateLimiter, Rates
from bot.redaction import HIDDEN
from dialogue.messages import Button
from tests.bot.cli.program import kept_logging

ANN, GROUP = 1001, -55
UNLIMITED = Rates(0, 0, 0, 0)
BUTTONS = ((Button("Yes", "yes"), Button("No", "no")),)
SECRET = TOKEN.partition(":")[2]


@asynccontextmanager
async def connected(
    *, rates: Rates = UNLIMITED, timeout_s: float = 5.0, limits: Limits | None = None, token: str = TOKEN, **settings: Any
) -> AsyncIterator[tuple[TelegramApi, FakeTelegram]]:
    """An API that has made contact, and its server, on which Ann and a group have written."""
    async with FakeTelegram(limits=limits or Limits.none(), pace=0.0, **settings) as telegram:
        telegram.say("hello", chat=ANN)
        telegram.say("hello", chat=GROUP, user=ANN)
        api = TelegramApi(token, base_url=telegram.base_url, timeout_s=timeout_s, poll_s=0, limiter=RateLimiter(rates))
        try:
            await api.open()
            yield api, telegram
        finally:
            await api.close()


async def failure(call: Awaitable[object]) -> DeliveryError:
    """Return what a call that must fail raises; no part of it may know the token."""
    with pytest.raises(DeliveryError) as caught:
        await call
    error = caught.value
    assert SECRET not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


async def test_a_wrong_address_is_thought_of() -> None:
    """Where nothing is known at the base URL, the operator hears that it may be wrong, not the token alone."""
    async with FakeTelegram(limits=Limits.none()) as telegram:
        api = TelegramApi(TOKEN, base_url=f"{telegram.base_url}/elsewhere", timeout_s=5.0, poll_s=0, limiter=RateLimiter(UNLIMITED))
        with pytest.raises(ChannelRefused, match="base_url is wrong"):
            await api.open()
        await api.close()


async def test_without_contact_the_log_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt that reaches nobody tells where it tried and what to look at, without the token; a refusal names its settings."""
    async with FakeTelegram(limits=Limits.none()) as telegram:
        address = telegram.base_url
    api = TelegramApi(TOKEN, base_url=address, timeout_s=5.0, poll_s=0, limiter=RateLimiter(UNLIMITED))
    kefu = TelegramChannel(api, TelegramConfig("1", ParseRules()))
    monkeypatch.setattr("bot.channels.telegram.channel.CONTACT_FIRST_S", 0.0)
    outcomes = iter([DeliveryRetry("nobody there"), DeliveryRefused("Telegram said: 400 bad webhook")])

    async def call() -> None:
        raise next(outcomes)

    with capture_logs() as lines, pytest.raises(ChannelRefused) as caught:
        await kefu._until_contact(call, compare=WEBHOOK_SETTINGS)
    await kefu.close()
    (line,) = lines
    assert (line["event"], line["base_url"], "[telegram] base_url" in line["remedy"]) == ("telegram.no_contact", address, True)
    assert SECRET not in str(line)
    assert "webhook_url" in caught.value.hint


async def test_contact_tells_who_we_are() -> None:
    """`open` returns id and name of the bot."""
    async with connected() as (api, telegram):
        identity = await api.open()
        assert (identity.id, identity.username) == (int(TOKEN.partition(":")[0]), telegram.state.bot.username)


@pytest.mark.parametrize("token", ["123456789:" + "A" * 35, "123456789:with/slash"])
async def test_a_refused_token_is_said_without_the_token(token: str) -> None:
    """A token that Telegram does not know ends the start with a remedy, and stays secret."""
    with pytest.raises(ChannelRefused) as caught:
        async with connected(token=token):
            pass
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert token not in shown
    assert "TELEGRAM_BOT_TOKEN" in shown


async def test_a_revoked_token_is_told_apart() -> None:
    """Sending says that the token is gone and may be tried with a new one; polling ends the channel."""
    async with connected() as (api, telegram):
        telegram.revoke_token()
        assert isinstance(await failure(api.send(str(ANN), "hi", ())), TokenRefused)
        with pytest.raises(ChannelRefused):
            await api.get_updates(None)


async def test_a_message_is_shown_as_it_was_given() -> None:
    """Text, entities, buttons, reply and topic arrive; the id comes back."""
    async with connected() as (api, telegram):
        telegram.topic(45, chat=GROUP)
        asked = telegram.say("a question", chat=GROUP, user=ANN, thread=45)
        ref = await api.send(f"{GROUP}/45", "bold 粗", (Entity("bold", 0, 4),), reply_to=str(asked.message_id), buttons=BUTTONS)
        shown = telegram.screen(GROUP)[-1]
        assert (str(shown.message_id), shown.text, shown.button_data) == (ref, "bold 粗", ("yes", "no"))
        sent = _message(telegram, GROUP, ref)
        assert (sent.thread, sent.reply_to) == (45, asked.message_id)
        assert sent.content["entities"] == [{"type": "bold", "offset": 0, "length": 4}]


async def test_an_answer_to_a_deleted_message_is_sent_all_the_same() -> None:
    """That the question is gone does not keep the answer away."""
    async with connected() as (api, telegram):
        await api.send(str(ANN), "hi", (), reply_to="99999")
        assert telegram.screen(ANN)[-1].text == "hi"


async def test_edits_may_be_repeated() -> None:
    """An edit that changes nothing is a success."""
    async with connected() as (api, telegram):
        ref = await api.send(str(ANN), "…", ())
        for _ in range(2):
            await api.edit(str(ANN), ref, "done", (), buttons=BUTTONS)
            await api.edit_buttons(str(ANN), ref, BUTTONS)
        assert telegram.screen(ANN)[-1].text == "done"


async def test_an_edit_keeps_no_old_buttons() -> None:
    """Without buttons an edit takes away those that were there, and so does an edit of the buttons alone."""
    async with connected() as (api, telegram):
        ref = await api.send(str(ANN), "…", (), buttons=BUTTONS)
        await api.edit(str(ANN), ref, "done", ())
        assert telegram.screen(ANN)[-1].button_data == ()
        await api.edit_buttons(str(ANN), ref, BUTTONS)
        await api.edit_buttons(str(ANN), ref, ())
        assert telegram.screen(ANN)[-1].button_data == ()


async def test_a_message_becomes_a_file() -> None:
    """A placeholder turns into a document with a caption; doing it again is harmless."""
    async with connected() as (api, telegram):
        ref = await api.send(str(ANN), "…", ())
        for _ in range(2):
            await api.edit_document(str(ANN), ref, Document("data.json", b"{}"), "Your data")
        document = _message(telegram, ANN, ref).content["document"]
        assert document["file_name"] == "data.json"
        assert telegram.file(document["file_id"]) == b"{}"


async def test_a_file_that_waits_may_be_cancelled() -> None:
    """A call that is given up before its turn leaves nothing half done, and the chat goes on."""
    async with connected(rates=Rates(0.01, 1, 0, 0)) as (api, telegram):
        ref = await api.send(str(ANN), "…", ())
        waiting = asyncio.create_task(api.edit_document(str(ANN), ref, Document("data.json", b"{}"), "Your data"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert telegram.transcript("editMessageMedia") == ()


async def test_drafts_and_typing() -> None:
    """A draft is shown with a button to stop it, and takes topics; typing is shown."""
    async with connected() as (api, telegram):
        await api.draft(str(ANN), 7, "half an ans", ())
        assert telegram.draft(ANN) == "half an ans"
        assert telegram.stop_draft(chat=ANN)
        await api.typing(str(ANN))
        assert telegram.transcript("sendChatAction")[-1].outcome == "ok"


async def test_a_message_becomes_a_rich_one() -> None:
    """Rich Markdown replaces the placeholder."""
    async with connected() as (api, telegram):
        ref = await api.send(str(ANN), "…", ())
        await api.rich_edit(str(ANN), ref, "# Title", buttons=BUTTONS)
        assert _message(telegram, ANN, ref).content["rich_message"] == {"markdown": "# Title"}


async def test_an_old_server_has_no_drafts() -> None:
    """What a server does not know yet is told apart from a lost token."""
    async with connected(api_version="9.0") as (api, _):
        assert isinstance(await failure(api.draft(str(ANN), 7, "text", ())), MethodUnknown)


async def test_a_press_is_answered_once_and_repeated_without_harm() -> None:
    """The second answer to a press, and one that comes too late, change nothing."""
    async with connected() as (api, telegram):
        await api.send(str(ANN), "Sure?", (), buttons=BUTTONS)
        press = telegram.press("yes", chat=ANN)
        await api.answer_press(press.query_id, "Noted")
        await api.answer_press(press.query_id, "Noted")
        assert telegram.answer_to(press.query_id) == "Noted"


async def test_files_are_fetched_up_to_a_limit() -> None:
    """A file is read whole or refused, by the size that Telegram names."""
    async with connected() as (api, telegram):
        sent = telegram.send_file("document", chat=ANN, data=b"x" * 5000, name="notes.txt")
        file_id = sent.content["document"]["file_id"]
        assert await api.download(file_id, 5000) == b"x" * 5000
        with pytest.raises(FileRefused) as caught:
            await api.download(file_id, 4999)
        assert caught.value.reason == "file_too_big"
        with pytest.raises(FileRefused) as caught:
            await api.download("no such file", 5000)
        assert caught.value.reason == "file_unreadable"


async def test_commands_are_set_for_a_language() -> None:
    """The menu arrives under its language."""
    async with connected() as (api, telegram):
        await api.set_commands("zh", [("start", "开始")])
        assert [[command["description"] for command in menu] for menu in telegram.commands().values()] == [["开始"]]


async def test_updates_come_as_raw_bytes() -> None:
    """getUpdates returns the body as it came; the offset confirms."""
    async with connected() as (api, _):
        batch = json.loads(await api.get_updates(None))["result"]
        assert [update["message"]["text"] for update in batch] == ["hello", "hello"]
        assert json.loads(await api.get_updates(batch[-1]["update_id"] + 1))["result"] == []


async def test_two_pollers_and_a_webhook_conflict() -> None:
    """409 is told as what it is; deleting the webhook heals it and keeps what waits."""
    async with connected() as (api, telegram):
        await api.set_webhook("http://127.0.0.1:1/nowhere", "secret", 10)
        assert isinstance(await failure(api.get_updates(None)), PollConflict)
        await api.delete_webhook()
        assert telegram.transcript("deleteWebhook")[-1].outcome == "ok"
        assert json.loads(await api.get_updates(None))["ok"]


async def _blocked(telegram: FakeTelegram) -> str:
    telegram.block(chat=ANN)
    return str(ANN)


async def _deactivated(telegram: FakeTelegram) -> str:
    telegram.deactivate(ANN)
    return str(ANN)


async def _kicked(telegram: FakeTelegram) -> str:
    telegram.kick(chat=GROUP)
    return str(GROUP)


async def _stranger(telegram: FakeTelegram) -> str:
    telegram.state.user(4321)
    return "4321"


async def _nobody(_telegram: FakeTelegram) -> str:
    return "987654"


@pytest.mark.parametrize("arrange", [_blocked, _deactivated, _kicked, _stranger, _nobody])
async def test_who_cannot_be_reached_is_refused(arrange: Callable[[FakeTelegram], Awaitable[str]]) -> None:
    """Blocked, deactivated, kicked, never started, unknown: no retry will help."""
    async with connected() as (api, telegram):
        chat = await arrange(telegram)
        assert isinstance(await failure(api.send(chat, "hi", ())), DeliveryRefused)


async def test_a_chat_that_moved_says_where() -> None:
    """A migrated group gives its new id."""
    async with connected() as (api, telegram):
        new = telegram.migrate(chat=GROUP)
        moved = await failure(api.send(str(GROUP), "hi", ()))
        assert isinstance(moved, DeliveryMoved)
        assert moved.chat == str(new)


async def test_what_is_wrong_with_a_text_is_told_apart() -> None:
    """Too long, badly formatted, and a message that is gone each have their own error."""
    async with connected() as (api, _):
        chat = str(ANN)
        ref = await api.send(chat, "…", ())
        assert isinstance(await failure(api.edit(chat, ref, "x" * 4097, ())), TextTooLong)
        assert isinstance(await failure(api.edit(chat, ref, "😀" * 4000, ())), TextTooLong)
        assert isinstance(await failure(api.edit(chat, ref, "short", (Entity("bold", 3, 40),))), EntitiesRefused)
        assert isinstance(await failure(api.edit(chat, "99999", "text", ())), MessageGone)


UNKNOWN = (
    FaultKind.LOST,
    FaultKind.LATE,
    FaultKind.BROKEN,
    FaultKind.TRUNCATED,
    FaultKind.ERROR,
    FaultKind.ERROR_HTML,
    Fault(FaultKind.ERROR, status=500),
    Fault(FaultKind.ERROR_HTML, status=504),
)


@pytest.mark.parametrize("fault", UNKNOWN, ids=str)
async def test_after_the_request_went_out_nothing_is_known(fault: FaultKind | Fault) -> None:
    """Lost answers, broken connections, also kept-alive ones, and 5xx are unknown: they may come after the effect."""
    async with connected() as (api, telegram):
        telegram.faults.script("sendMessage", fault, None)
        assert isinstance(await failure(api.send(str(ANN), "hi", ())), DeliveryUnknown)
        assert await api.send(str(ANN), "hi again", ())


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.LATE_HANG])
async def test_a_time_out_behind_the_request_is_unknown(kind: FaultKind) -> None:
    """Silence is no refusal."""
    async with connected(timeout_s=0.1) as (api, telegram):
        telegram.faults.script("sendMessage", kind)
        assert isinstance(await failure(api.send(str(ANN), "hi", ())), DeliveryUnknown)


async def test_without_a_connection_nothing_was_accepted() -> None:
    """A server that refuses connections has certainly seen nothing."""
    async with connected() as (api, telegram):
        await telegram.down()
        await asyncio.sleep(0)
        error = await failure(api.send(str(ANN), "hi", ()))
        assert isinstance(error, DeliveryRetry)
        assert error.after_s is None


async def test_a_full_pool_is_a_retry() -> None:
    """A call that got no connection in time has certainly not been sent."""
    async with connected(timeout_s=0.2) as (api, telegram):
        telegram.faults.script("sendMessage", *[FaultKind.HANG] * 130)
        calls = [failure(api.send(str(ANN), "hi", ())) for _ in range(1)]
        for chat in range(5000, 5130):
            telegram.start(chat=chat)
            calls.append(failure(api.send(str(chat), "hi", ())))
        outcomes = await asyncio.gather(*calls)
        assert {type(outcome) for outcome in outcomes} == {DeliveryUnknown, DeliveryRetry}


async def test_a_lost_answer_to_an_edit_is_healed_by_repeating_it() -> None:
    """The second edit finds the text there, and that is a success."""
    async with connected() as (api, telegram):
        ref = await api.send(str(ANN), "…", ())
        telegram.faults.script("editMessageText", FaultKind.LOST)
        assert isinstance(await failure(api.edit(str(ANN), ref, "done", ())), DeliveryUnknown)
        await api.edit(str(ANN), ref, "done", ())
        assert telegram.screen(ANN)[-1].text == "done"


@pytest.mark.parametrize("seconds", [1.0, 600.0, 13_938.0])
async def test_too_many_requests_pause_that_chat_alone(seconds: float) -> None:
    """After 429 the chat is left alone for as long as Telegram asked, typing included; others go on."""
    async with connected() as (api, telegram):
        telegram.faults.script("sendMessage", Fault(FaultKind.BUSY, after_s=seconds))
        error = await failure(api.send(str(ANN), "hi", ()))
        assert isinstance(error, DeliveryRetry)
        assert error.after_s == seconds
        assert seconds - 1 < api.paused_s(f"{ANN}/45") <= seconds
        assert not api.has_room(str(ANN))
        await api.typing(str(ANN))
        assert telegram.transcript("sendChatAction") == ()
        await api.send(str(GROUP), "hi", ())


async def test_nothing_is_sent_inside_a_retry_after() -> None:
    """Ten calls at once, faster than the server allows: those that wait keep still until its time is over."""
    clock = Clock()
    limiter = RateLimiter(Rates(0, 0, 0, 0), clock=clock, sleep=clock.sleep)
    async with FakeTelegram(limits=Limits(chat_burst=2, grace_s=0.0), clock=clock, pace=0.0) as telegram:
        telegram.say("hello", chat=ANN)
        api = TelegramApi(TOKEN, base_url=telegram.base_url, timeout_s=5, poll_s=0, limiter=limiter)
        await api.open()
        outcomes = await asyncio.gather(*(api.send(str(ANN), f"{number}", ()) for number in range(10)), return_exceptions=True)
        await api.close()
        refused = [outcome for outcome in outcomes if isinstance(outcome, DeliveryRetry)]
        assert refused
        assert len(refused) < 10
        assert telegram.violations() == ()


async def test_a_keep_alive_connection_that_the_server_closed_is_not_used() -> None:
    """After a pause of the server the next call opens a new connection."""
    async with connected() as (api, telegram):
        await api.send(str(ANN), "one", ())
        await telegram.down()
        await telegram.up()
        await asyncio.sleep(0)
        await api.send(str(ANN), "two", ())


async def test_one_call_at_a_time_in_a_chat() -> None:
    """Messages that are sent at once are shown in their order."""
    async with connected() as (api, telegram):
        await asyncio.gather(*(api.send(str(ANN), str(number), ()) for number in range(20)))
        assert [shown.text for shown in telegram.screen(ANN)[1:]] == [str(number) for number in range(20)]


async def test_no_token_and_no_text_in_the_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong, not even at debug does a library log URLs or what people wrote."""
    with kept_logging():
        configure_logging("debug")
        async with connected() as (api, telegram):
            telegram.faults.script("sendMessage", *UNKNOWN)
            for _ in UNKNOWN:
                await failure(api.send(str(ANN), "a private matter", ()))
            telegram.faults.script("deleteWebhook", FaultKind.TRUNCATED, FaultKind.ERROR_HTML)
            await failure(api.delete_webhook())
            await failure(api.delete_webhook())
    logs = capsys.readouterr().err
    assert not {found for found in (SECRET, HIDDEN, "a private matter", "<html>") if found in logs}


class Clock:
    """A time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def _message(telegram: FakeTelegram, chat: int, ref: str) -> Message:
    return telegram.state.chats[chat].messages[int(ref)]
