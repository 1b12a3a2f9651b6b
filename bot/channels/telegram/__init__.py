"""Telegram: updates in, previews and answers out, over the Bot API.

channel, config                          the channel itself: contact, delivery; everything below is put together there
polling, webhook                         the two ways in: raw bytes, durable before they are acknowledged
parse, batch, groups, content, update_fields    what stands in an update, read without trust
reply_stream                             previews: drafts in private chats, edits of a placeholder elsewhere
api, transport, errors                   the Bot API through python-telegram-bot; what its answers mean, read in one place
files, menu                              text files that people send; the menu of commands
render                                   model text as messages with formatting, of which no character is lost
  markdown_parser, table_rule, markdown, writer, spans, table, split, keeping, clean, utf16    how
fake_server, fake_client                 a Bot API server that behaves as badly as the real one (docs/fake-telegram.md)
  fake_*                                 its parts: state, people and crowds of them, limits, faults, methods, HTTP
bench, bench_load, bench_library         this bot beside python-telegram-bot's own application; this bot under load
"""
