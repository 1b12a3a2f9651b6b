"""The Telegram channel: updates in, previews and answers out, over the Bot API."""
