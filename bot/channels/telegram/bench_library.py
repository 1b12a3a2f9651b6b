"""The other arms of `kefu bench bot`: an echo bot on python-telegram-bot's own Application, as its users write one.

`python -m bot.channels.telegram.bench_library MODE BASE_URL TOKEN` runs until it is terminated. Modes:

    sequential    placeholder, then edit; one update after the other, the library's default
    concurrent    the same, with 256 updates at the same time
    plain         one sendMessage, with 256 updates at the same time
"""

import sys
from typing import Any

from telegram import Update
from telegram.ext import Application, ApplicationBuilder, ContextTypes, MessageHandler, filters

PLACEHOLDER = "…"
CONCURRENT = 256


async def place_and_edit(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    """Answer as Kefu does: a message first, then its text."""
    message = update.effective_message
    if message is not None:
        sent = await context.bot.send_message(message.chat_id, PLACEHOLDER)
        await sent.edit_text(f"You said: {message.text}")


async def send(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    """Answer with one call."""
    message = update.effective_message
    if message is not None:
        await context.bot.send_message(message.chat_id, f"You said: {message.text}")


def build(mode: str, base_url: str, token: str) -> Application[Any, Any, Any, Any, Any, Any]:
    """Return the application of an arm."""
    builder = ApplicationBuilder().token(token).base_url(f"{base_url}/bot").base_file_url(f"{base_url}/file/bot")
    builder = builder.connection_pool_size(CONCURRENT).pool_timeout(60.0)
    if mode != "sequential":
        builder = builder.concurrent_updates(CONCURRENT)
    application = builder.build()
    application.add_handler(MessageHandler(filters.TEXT, send if mode == "plain" else place_and_edit))
    return application


if __name__ == "__main__":
    build(*sys.argv[1:]).run_polling()
