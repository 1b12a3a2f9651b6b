"""A plain python-telegram-bot Application, with its own Updater, runs an echo bot against the fake server."""

import json
from pathlib import Path
from typing import Any

import pytest
from telegram import Update
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, MessageHandler, filters

from bot.channels.telegram.fake_faults import FaultKind
from bot.channels.telegram.fake_http import Request
from bot.channels.telegram.fake_server import FakeTelegram
from tests.bot.channels.telegram.fake_calls import keyboard, running
from tests.bot.channels.telegram.test_fake_webhook import Receiver, hooked


async def echo(update: Update, _context: Any) -> None:
    assert update.message is not None
    await update.message.reply_text(update.message.text or "", do_quote=True)


async def start(update: Update, _context: Any) -> None:
    assert update.message is not None
    await update.message.reply_html("<b>Hello</b> &amp; welcome", reply_markup=json.dumps(keyboard("ok")))  # pyrefly: ignore[bad-argument-type]


async def pressed(update: Update, _context: Any) -> None:
    assert update.callback_query is not None
    await update.callback_query.answer("done")
    await update.callback_query.edit_message_text("pressed")


async def read(update: Update, context: Any) -> None:
    assert update.message is not None
    assert update.message.document is not None
    file = await context.bot.get_file(update.message.document.file_id)
    await update.message.reply_document(bytes(await file.download_as_bytearray()), filename="copy.txt")


def application(telegram: FakeTelegram) -> Application[Any, Any, Any, Any, Any, Any]:
    """An echo bot as the library's documentation writes it, with two settings for the server."""
    builder = Application.builder().token(telegram.token)
    built = builder.base_url(f"{telegram.base_url}/bot").base_file_url(f"{telegram.base_url}/file/bot").build()
    built.add_handler(CommandHandler("start", start))
    built.add_handler(MessageHandler(filters.Document.ALL, read))
    built.add_handler(MessageHandler(filters.TEXT, echo))
    built.add_handler(CallbackQueryHandler(pressed))
    return built


async def converse(telegram: FakeTelegram) -> None:
    """Say something, press something, send something, and wait for each answer."""
    said = telegram.say("hello")
    await until(telegram, lambda: [shown.text for shown in telegram.screen() if shown.reply_to == said.message_id] == ["hello"])
    telegram.say("/start")
    await until(telegram, lambda: telegram.screen()[-1].text == "Hello & welcome")
    press = telegram.press("ok")
    await until(telegram, lambda: telegram.screen()[-1].text == "pressed")
    assert telegram.answer_to(press.query_id) == "done"
    telegram.send_file("document", data=b"content", name="a.txt")
    await until(telegram, lambda: telegram.screen()[-1].is_bot)
    assert telegram.file(telegram.screen()[-1].file_id) == b"content"


async def until(telegram: FakeTelegram, holds: Any) -> None:
    while not holds():
        await telegram.changed()


async def test_polling() -> None:
    """The library's Updater polls, its handlers answer, and a poll that breaks only repeats updates."""
    async with running() as bot, application(bot.telegram) as echo_bot:
        assert echo_bot.updater is not None
        bot.telegram.faults.script("getUpdates", FaultKind.TRUNCATED)
        await echo_bot.start()
        await echo_bot.updater.start_polling(poll_interval=0, timeout=10)
        await converse(bot.telegram)
        await echo_bot.updater.stop()
        await echo_bot.stop()
        assert {call.outcome for call in bot.telegram.transcript("sendMessage")} == {"ok"}


class LibraryReceiver(Receiver):
    """Hands what comes to the library's queue of updates, as its own webhook does."""

    target: Application[Any, Any, Any, Any, Any, Any] | None = None

    def __call__(self, request: Request) -> None:
        if self.target is not None:
            self.target.update_queue.put_nowait(Update.de_json(json.loads(request.body), self.target.bot))
        request.connection.reply(200, b"")


async def test_webhook() -> None:
    """The same bot works behind a webhook."""
    receiver = LibraryReceiver()
    async with hooked(receiver) as bot, application(bot.telegram) as echo_bot:
        receiver.target = echo_bot
        await echo_bot.start()
        await converse(bot.telegram)
        await echo_bot.stop()


def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    """The twenty lines in docs/fake-telegram.md run, and print what is written there."""
    page = (Path(__file__).parents[4] / "docs" / "fake-telegram.md").read_text(encoding="utf-8")
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    assert capsys.readouterr().out == "['hello', 'hello'] ['lost']\n"
