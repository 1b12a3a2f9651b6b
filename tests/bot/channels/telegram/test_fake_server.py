"""The fake Bot API server as a bot meets it: updates, people, requests."""

import asyncio

import pytest

from tests.bot.channels.telegram.fake_calls import CHAT, GROUP, SUPERGROUP, Caller, Time, keyboard, running, send


async def test_a_higher_offset_forgets_and_a_lower_one_repeats() -> None:
    """Updates come again until a higher offset was asked for; a negative offset keeps the newest only."""
    async with running() as bot:
        for text in ("a", "b", "c"):
            bot.telegram.say(text)
        first = await bot.result("getUpdates")
        assert [update["message"]["text"] for update in await bot.result("getUpdates", limit=2, offset=first[0]["update_id"])] == ["a", "b"]
        assert [update["message"]["text"] for update in await bot.result("getUpdates", offset=first[1]["update_id"])] == ["b", "c"]
        assert [update["message"]["text"] for update in await bot.result("getUpdates", offset=-1)] == ["c"]
        assert [update["update_id"] - first[0]["update_id"] for update in first] == [0, 1, 2]


async def test_a_long_poll_ends_with_the_first_update() -> None:
    """A poll that waits is answered as soon as somebody writes."""
    async with running() as bot:
        waiting = asyncio.create_task(bot.result("getUpdates", timeout=50))
        await _until_polling(bot)
        bot.telegram.say("now")
        assert (await waiting)[0]["message"]["text"] == "now"


async def test_the_second_poller_ends_the_first() -> None:
    """Of two that poll the first gets 409, also while a webhook is set."""
    async with running() as bot:
        first = asyncio.create_task(bot.call("getUpdates", timeout=50))
        await _until_polling(bot)
        second = asyncio.create_task(bot.call("getUpdates", timeout=50))
        assert (await first)["description"].startswith("Conflict: terminated by other getUpdates request")
        await bot.result("setWebhook", url="http://127.0.0.1:9/hook")
        assert (await second)["description"] == "Conflict: terminated by setWebhook request"
        assert (await bot.error("getUpdates")).startswith("409 Conflict: can't use getUpdates method while webhook is active")


async def test_only_kinds_that_were_asked_for_are_queued() -> None:
    """`allowed_updates` holds from the call on; it stays until another list comes."""
    async with running() as bot:
        await bot.result("getUpdates", allowed_updates=["callback_query"])
        bot.telegram.say("unheard")
        assert await bot.result("getUpdates") == []
        await bot.result("getUpdates", allowed_updates=[])
        bot.telegram.say("heard")
        assert len(await bot.result("getUpdates")) == 1


async def test_updates_are_kept_for_a_day() -> None:
    """A message that nobody fetched for 24 hours is gone, a pressed button after 150 seconds."""
    time = Time()
    async with running(clock=time) as bot:
        await send(bot, reply_markup=keyboard("yes"))
        bot.telegram.press("yes")
        assert bot.telegram.pending() == 2
        time.now += 151
        assert bot.telegram.pending() == 1
        time.now += 86_400
        assert bot.telegram.pending() == 0


async def test_a_group_becomes_a_supergroup() -> None:
    """The old id is refused and names the new one; both sides get a service message."""
    async with running() as bot:
        bot.telegram.say("hi", chat=GROUP)
        new = bot.telegram.migrate(chat=GROUP)
        answer = await bot.call("sendMessage", chat_id=GROUP, text="x")
        assert answer["parameters"] == {"migrate_to_chat_id": new}
        updates = [update["message"] for update in await bot.result("getUpdates")]
        assert [message.get("migrate_to_chat_id") or message.get("migrate_from_chat_id") for message in updates] == [None, new, GROUP]
        await bot.result("sendMessage", chat_id=new, text="x")


async def test_wrong_and_revoked_tokens() -> None:
    """Whoever has no token, or an old one, gets 401."""
    async with running() as bot:
        old = bot.url("getMe")
        bot.telegram.revoke_token()
        assert (await bot.http.get(old)).status_code == 401
        assert (await bot.result("getMe"))["username"] == "kefu_bot"


async def test_buttons() -> None:
    """A pressed button becomes a callback query that can be answered once; nobody presses what is not shown."""
    async with running() as bot:
        await send(bot, reply_markup=keyboard("yes"))
        press = bot.telegram.press("yes")
        update = (await bot.result("getUpdates"))[-1]["callback_query"]
        assert (update["data"], update["from"]["id"], update["message"]["chat"]["id"]) == ("yes", CHAT, CHAT)
        await bot.result("answerCallbackQuery", callback_query_id=update["id"], text="thanks")
        assert bot.telegram.answer_to(press.query_id) == "thanks"
        assert "query is too old" in await bot.error("answerCallbackQuery", callback_query_id=update["id"])
        with pytest.raises(LookupError):
            bot.telegram.press("no")


async def test_files_of_people() -> None:
    """A document with a caption reaches the bot, which can download it; photos, voices and stickers have their fields."""
    async with running() as bot:
        for kind in ("document", "photo", "voice", "sticker"):
            bot.telegram.send_file(kind, data=b"abc", name="notes.txt", caption="read /this")
        messages = [update["message"] for update in await bot.result("getUpdates")]
        assert [kind in message for kind, message in zip(("document", "photo", "voice", "sticker"), messages, strict=True)] == [True] * 4
        assert messages[0]["document"]["file_name"] == "notes.txt"
        assert messages[0]["caption_entities"] == [{"type": "bot_command", "offset": 5, "length": 5}]


async def test_topics_edits_replies_and_forwards() -> None:
    """What people do is told to the bot in Telegram's fields."""
    async with running() as bot:
        first = bot.telegram.say("one", chat=SUPERGROUP, thread=7)
        bot.telegram.say("two", chat=SUPERGROUP, reply_to=first.message_id)
        bot.telegram.edit(first.message_id, "uno", chat=SUPERGROUP)
        bot.telegram.forward("old news")
        one, two, edited, forwarded = (update.get("message") or update["edited_message"] for update in await bot.result("getUpdates"))
        assert (one["message_thread_id"], one["is_topic_message"], one["chat"]["is_forum"]) == (7, True, True)
        assert (two["reply_to_message"]["message_id"], edited["text"], "edit_date" in edited) == (1, "uno", True)
        assert forwarded["forward_origin"]["type"] == "hidden_user"
        await bot.result("sendMessage", chat_id=SUPERGROUP, message_thread_id=7, text="here")


async def test_raw_updates_are_delivered_as_they_are() -> None:
    """A hostile update is delivered with its number, even if it is no JSON."""
    async with running() as bot:
        number = bot.telegram.push({"message": {"text": None}})
        bot.telegram.push(b'"message":{{{')
        raw = (await bot.http.post(bot.url("getUpdates"))).content
        assert b'{"update_id":%d,"message": {"text": null}}' % number in raw
        assert raw.endswith(b'"message":{{{}]}')


async def test_older_servers_lack_newer_methods() -> None:
    """A method that is newer than `api_version` is not there."""
    rich = {"chat_id": CHAT, "rich_message": {"markdown": "# title"}}
    async with running(api_version="10.0") as old, running() as new:
        for bot in (old, new):
            bot.telegram.say("hi")
        assert (await old.error("sendRichMessage", **rich)).startswith("404")
        assert (await new.result("sendRichMessage", **rich))["message_id"] == 2


async def test_the_transcript_tells_what_was_called() -> None:
    """Each call is written down with its time, parameters and outcome."""
    time = Time()
    async with running(clock=time) as bot:
        await send(bot, "hello")
        await bot.error("sendMessage", chat_id=CHAT, text="")
        told = [(call.at, call.chat, call.params["text"], call.outcome, call.message_id) for call in bot.telegram.transcript("sendMessage")]
        assert told == [(1000.0, CHAT, "hello", "ok", 2), (1000.0, CHAT, "", "Bad Request: message text is empty", 0)]


async def test_bodies_come_in_every_form() -> None:
    """A query, a form, JSON, a chunked body and two requests in one packet are all understood."""
    async with running() as bot:
        bot.telegram.say("hi")
        assert (await bot.http.get(bot.url("sendMessage") + "?chat_id=1001&text=query")).status_code == 200
        assert (await bot.http.post(bot.url("sendMessage"), data={"chat_id": "1001", "text": "form"})).status_code == 200
        await _raw(bot, _chunked(b'{"chat_id": 1001, "text": "chunks"}'))
        assert [shown.text for shown in bot.telegram.screen()[1:]] == ["query", "form", "chunks", "chunks"]


def _chunked(body: bytes) -> bytes:
    return b"5\r\n" + body[:5] + b"\r\n%x\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\n\r\n"


async def _raw(bot: Caller, body: bytes) -> None:
    """Send the same request twice in one packet."""
    port = int(bot.telegram.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /bot{bot.telegram.token}/sendMessage HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write((head.encode() + body) * 2)
    for _ in range(2):
        await reader.readuntil(b'"text": "chunks"}}')
    writer.close()
    await writer.wait_closed()


async def _until_polling(bot: Caller) -> None:
    while not bot.telegram.is_polled:
        await bot.telegram.changed()
