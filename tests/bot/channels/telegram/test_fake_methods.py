"""The methods of the fake Bot API: what is shown, and what is refused."""

from typing import Any

import pytest

from tests.bot.channels.telegram.fake_calls import CHAT, GROUP, SUPERGROUP, Caller, Time, keyboard, running, send

RESERVED = "Character '.' is reserved and must be escaped with the preceding '\\'"
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"
NINE = [[{"text": "a", "callback_data": "a"}] * 9]


async def test_messages_edits_and_deletions_are_seen() -> None:
    """The screen shows what people see: the last text, its entities and buttons, nothing that was deleted; old texts are remembered."""
    async with running() as bot:
        sent = await send(bot, "…", reply_markup=keyboard("stop"))
        bold = [{"type": "bold", "offset": 0, "length": 5}]
        await bot.result("editMessageText", chat_id=CHAT, message_id=sent, text="final", entities=bold)
        await bot.result("deleteMessage", chat_id=CHAT, message_id=await send(bot, "gone"))
        _, shown = bot.telegram.screen()
        assert (shown.text, shown.entities, shown.buttons, shown.texts) == ("final", tuple(bold), (), ("…", "final"))


async def test_private_chats_share_one_counter() -> None:
    """Private chats and small groups number their messages together, each supergroup by itself."""
    async with running() as bot:
        ids = [bot.telegram.say("x", chat=chat).message_id for chat in (CHAT, CHAT + 1, GROUP, SUPERGROUP, SUPERGROUP, SUPERGROUP - 1)]
        assert ids == [1, 2, 3, 1, 2, 1]


@pytest.mark.parametrize(
    ("method", "params", "refusal"),
    [
        ("sendMessage", {"text": ""}, "400 Bad Request: message text is empty"),
        ("sendMessage", {"text": "x" * 4097}, "400 Bad Request: message is too long"),
        ("editMessageText", {"text": "😀" * 2049, "message_id": 2}, "400 Bad Request: MESSAGE_TOO_LONG"),
        ("sendMessage", {"text": "x", "chat_id": 5}, "400 Bad Request: chat not found"),
        ("sendMessage", {"text": "x", "chat_id": ""}, "400 Bad Request: chat_id is empty"),
        ("sendMessage", {"text": "x", "chat_id": 2002}, "403 Forbidden: bot can't initiate conversation with a user"),
        ("sendMessage", {"text": "x", "reply_parameters": {"message_id": 99}}, "400 Bad Request: message to be replied not found"),
        ("sendMessage", {"text": "x", "message_thread_id": 9}, "400 Bad Request: message thread not found"),
        ("editMessageText", {"text": "x", "message_id": 99}, "400 Bad Request: message to edit not found"),
        ("editMessageText", {"text": "x", "message_id": 1}, "400 Bad Request: message can't be edited"),
        ("deleteMessage", {"message_id": 99}, "400 Bad Request: message to delete not found"),
        ("sendMessage", {"text": "a.", "parse_mode": "MarkdownV2"}, f"400 Bad Request: can't parse entities: {RESERVED}"),
        ("sendMessage", {"text": "x", "reply_markup": keyboard("é" * 33)}, "400 Bad Request: BUTTON_DATA_INVALID"),
        ("sendMessage", {"text": "x", "reply_markup": {"inline_keyboard": NINE}}, "400 Bad Request: reply markup is too long"),
        ("sendMessageDraft", {"text": "x", "draft_id": 0}, "400 Bad Request: RANDOM_ID_INVALID"),
        ("sendMessageDraft", {"text": "x", "draft_id": 1, "chat_id": GROUP}, "400 Bad Request: TEXTDRAFT_PEER_INVALID"),
        ("sendChatAction", {"action": "dancing"}, "400 Bad Request: wrong parameter action in request"),
        ("answerCallbackQuery", {"callback_query_id": "1"}, f"400 Bad Request: {TOO_OLD}"),
        ("getFile", {"file_id": "x"}, "400 Bad Request: wrong file_id or the file is temporarily unavailable"),
        ("sendSmell", {}, "404 Not Found: method not found"),
    ],
)  # fmt: skip
async def test_refusals(method: str, params: dict[str, Any], refusal: str) -> None:
    """What Telegram refuses is refused, in its own words."""
    async with running() as bot:
        bot.telegram.say("hello")
        bot.telegram.say("hello", chat=GROUP, user=2002)
        assert await bot.error(method, **{"chat_id": CHAT, **params}) == refusal


async def test_an_edit_to_the_same_is_not_modified() -> None:
    """An edit that changes neither the content nor the buttons is refused, also if it was sent with blanks around."""
    async with running() as bot:
        sent = await send(bot, "same")
        assert "message is not modified" in await bot.error("editMessageText", chat_id=CHAT, message_id=sent, text=" same ")
        await bot.result("editMessageReplyMarkup", chat_id=CHAT, message_id=sent, reply_markup=keyboard("new"))


async def test_people_who_are_gone() -> None:
    """Blocked, deactivated, kicked: each has its 403, and a block can be taken back."""
    async with running() as bot:
        for chat in (CHAT, GROUP, SUPERGROUP):
            bot.telegram.say("hi", chat=chat)
        bot.telegram.block()
        bot.telegram.kick(chat=GROUP)
        bot.telegram.kick(chat=SUPERGROUP)
        assert await _refused(bot, CHAT) == "403 Forbidden: bot was blocked by the user"
        assert await _refused(bot, GROUP) == "403 Forbidden: bot was kicked from the group chat"
        assert await _refused(bot, SUPERGROUP) == "403 Forbidden: bot was kicked from the supergroup chat"
        bot.telegram.unblock()
        await send(bot)
        bot.telegram.deactivate(CHAT)
        assert await _refused(bot, CHAT) == "403 Forbidden: user is deactivated"


async def test_drafts() -> None:
    """A draft lives for 30 seconds after its last change, ends with a real message, and can be stopped by the person."""
    time = Time()
    async with running(clock=time) as bot:
        bot.telegram.say("hi")
        await bot.result("getUpdates", allowed_updates=["message", "stopped_message_generation"])
        for draft_id in (1, 2, 3):
            await bot.result("sendMessageDraft", chat_id=CHAT, draft_id=draft_id, text="thin", can_stop=True)
            await bot.result("sendMessageDraft", chat_id=CHAT, draft_id=draft_id, text="thinking", can_stop=True)
            assert bot.telegram.draft() == "thinking"
            if draft_id == 1:
                time.now += 30
            elif draft_id == 2:
                await send(bot)
            else:
                assert bot.telegram.stop_draft()
            assert bot.telegram.draft() is None
        assert [draft.ended for draft in bot.telegram.drafts()] == ["expired", "dismissed", "stopped"]
        assert (await bot.result("getUpdates"))[-1]["stopped_message_generation"]["draft_id"] == 3


async def test_documents() -> None:
    """A file goes in by multipart, is shown as a document and comes out again; a text message can become one."""
    async with running() as bot:
        sent = await send(bot, "wait")
        for method, params in (
            ("sendDocument", {"chat_id": "1001", "document": "attach://f"}),
            (
                "editMessageMedia",
                {"chat_id": "1001", "message_id": str(sent), "media": '{"type":"document","media":"attach://f","caption":"c"}'},
            ),
        ):
            response = await bot.http.post(bot.url(method), data=params, files={"f": ("a.txt", b"\r\n--content\x00", "text/plain")})
            file_id = response.json()["result"]["document"]["file_id"]
            path = (await bot.result("getFile", file_id=file_id))["file_path"]
            fetched = await bot.http.get(f"{bot.telegram.base_url}/file/bot{bot.telegram.token}/{path}")
            assert fetched.content == bot.telegram.file(file_id) == b"\r\n--content\x00"
        assert [(shown.text, shown.is_document) for shown in bot.telegram.screen()[1:]] == [("c", True), ("", True)]


async def test_commands() -> None:
    """The menu of commands is kept by scope and language."""
    async with running() as bot:
        menu = [{"command": "help", "description": "Help"}]
        await bot.result("setMyCommands", commands=menu, language_code="zh")
        assert await bot.result("getMyCommands", language_code="zh") == menu
        assert await bot.result("getMyCommands") == []
        assert (
            await bot.error("setMyCommands", commands=[{"command": "HELP", "description": "x"}]) == "400 Bad Request: BOT_COMMAND_INVALID"
        )


async def _refused(bot: Caller, chat: int) -> str:
    return await bot.error("sendMessage", chat_id=chat, text="x")
