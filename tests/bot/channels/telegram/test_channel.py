"""What people on Telegram see: the whole program around a fake Telegram."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.channels.base import ChannelRefused
from bot.channels.telegram import reply_stream
from bot.channels.telegram.channel import telegram_channel
from bot.channels.telegram.fake_faults import FaultKind
from bot.channels.telegram.menu import COMMANDS
from bot.channels.telegram.reply_stream import draft_id
from bot.command_words import say
from bot.settings_sections import AccessSection, TelegramSection
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import ScriptedEngine
from dialogue.words import say as say_in_dialogue
from tests.bot.apps import app_settings
from tests.bot.channels.telegram.scene import CHAT, GROUP, PLACEHOLDER, Scene, scene

LONG = "word " * 80  # long enough to be seen growing, short enough for one reply


@pytest.fixture
def previews_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let previews begin with the answer."""
    monkeypatch.setattr(reply_stream, "FIRST_S", 0.0)


def slow_engine() -> ScriptedEngine:
    """An engine whose answers can be watched."""
    return ScriptedEngine(echo_user, token_delay_s=0.01)


async def test_a_question_gets_its_answer(tmp_path: Path) -> None:
    """The stored text is on the screen, in one message that may be rated."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("Hello **you**")
        (answer,) = await kefu.answers(1)
        assert answer.text == "You said: Hello you"
        assert [entity["type"] for entity in answer.entities] == ["bold"]
        assert [data.split(":")[:2] for data in answer.button_data] == [["rate", "1"], ["rate", "-1"]]


@pytest.mark.usefixtures("previews_at_once")
async def test_an_answer_grows_as_a_draft_in_a_private_chat(tmp_path: Path) -> None:
    """Previews are drafts that can be stopped; nothing of them stays, and the answer comes after them in one message."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        kefu.telegram.say(LONG)
        (answer,) = await kefu.answers(1)
        drafts = kefu.telegram.drafts(CHAT)
        assert len({draft.draft_id for draft in drafts}) == 1
        assert all(answer.text.startswith(text.rstrip("…")[:20]) for text in drafts[0].texts if text)
        assert drafts[0].ended
        assert answer.texts == (PLACEHOLDER, answer.text)
        methods = [call.method for call in kefu.telegram.transcript() if call.chat == CHAT]
        assert methods.index("sendmessage") > max(index for index, method in enumerate(methods) if method == "sendmessagedraft")


@pytest.mark.usefixtures("previews_at_once")
async def test_an_answer_grows_in_its_placeholder_in_a_group(tmp_path: Path) -> None:
    """The placeholder answers the question, shows the text as it grows and has a button to stop it, until the answer stands in it."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        question = kefu.telegram.say(f"@kefu_bot {LONG}", chat=GROUP)
        (answer,) = await kefu.answers(1, GROUP)
        assert answer.reply_to == question.message_id
        assert answer.texts[0] == PLACEHOLDER
        assert len(answer.texts) > 2
        assert answer.texts[-1] == ("You said: " + LONG).strip()
        assert kefu.telegram.transcript("sendMessageDraft") == ()


@pytest.mark.usefixtures("previews_at_once")
async def test_a_server_without_drafts_gets_placeholders(tmp_path: Path) -> None:
    """A Bot API server that does not know drafts is noticed, and the answers after that grow in their placeholders."""
    async with scene(tmp_path, engine=slow_engine(), fake={"api_version": "9.0"}) as kefu:
        for number in (1, 2):
            kefu.telegram.say(LONG)
            await kefu.answers(number)
        assert len(kefu.telegram.transcript("sendMessageDraft")) == 1
        assert len((await kefu.answers(2))[1].texts) > 2


@pytest.mark.usefixtures("previews_at_once")
async def test_the_stop_button_ends_an_answer(tmp_path: Path) -> None:
    """Pressing it cancels the engine's work; the text so far is the answer."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        kefu.telegram.say(f"@kefu_bot {LONG}", chat=GROUP)
        await kefu.until(lambda: any("stop" in one.button_data and "word" in one.text for one in kefu.telegram.screen(GROUP) if one.is_bot))
        kefu.telegram.press("stop", chat=GROUP)
        (answer,) = await kefu.answers(1, GROUP)
        assert answer.text.startswith("You said: word")
        assert len(answer.text) < len(LONG)


@pytest.mark.usefixtures("previews_at_once")
async def test_telegrams_own_stop_ends_an_answer(tmp_path: Path) -> None:
    """A draft that the person stops stops the engine as well."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        kefu.telegram.say(LONG)
        await kefu.until(lambda: kefu.telegram.draft(CHAT))
        assert kefu.telegram.stop_draft(chat=CHAT)
        (answer,) = await kefu.answers(1)
        assert len(answer.text) < len(LONG)


async def test_feedback_is_stored_once_and_can_change(tmp_path: Path) -> None:
    """A thumb, the same thumb again, the other one and a reason: one opinion, the last."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("Hello")
        (answer,) = await kefu.answers(1)
        good, bad = answer.button_data
        for data, reason in ((good, ""), (good, ""), (bad, ""), (bad.replace("rate:-1", "why:outdated"), "outdated")):
            kefu.telegram.press(data)
            marked = "✓ " + (say(f"reason_{reason}", "en") if reason else "👍" if data == good else "👎")
            await kefu.until(lambda words=marked: words in str(kefu.telegram.screen(CHAT)[1].buttons))
        exported = await _exported(kefu)
        assert [(row["rating"], row["reason"]) for row in exported["feedback"]] == [(-1, "outdated")]


async def test_an_export_is_a_file_of_ones_own(tmp_path: Path) -> None:
    """/export sends a JSON file with what the person wrote."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("my own words")
        await kefu.answers(1)
        kefu.telegram.say("/export")
        document = (await kefu.answers(2))[1]
        assert document.is_document
        content = json.loads(kefu.telegram.file(document.file_id))
        assert "my own words" in str(content["turns"])


async def test_an_export_in_a_group_holds_nothing_private(tmp_path: Path) -> None:
    """Others read the file: only what the caller wrote in this group is in it."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("a private secret")
        await kefu.answers(1)
        kefu.telegram.say("@kefu_bot in the group", chat=GROUP)
        kefu.telegram.say("@kefu_bot somebody else", chat=GROUP, user=2002)
        await kefu.answers(2, GROUP)
        kefu.telegram.say("/export", chat=GROUP)
        document = (await kefu.answers(3, GROUP))[2]
        content = kefu.telegram.file(document.file_id).decode()
        assert ("in the group" in content, "secret" in content, "somebody else" in content) == (True, False, False)


async def test_forgetting_asks_erases_and_says_what(tmp_path: Path) -> None:
    """/forget asks by buttons; "everything" leaves nothing of the person in the database, and the message says what went."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("/remember likes tea")
        kefu.telegram.say("/forget")
        question = (await kefu.answers(2))[1]
        kefu.telegram.press(question.button_data[0])
        await kefu.until(lambda: not kefu.finished()[1].button_data)
        assert kefu.finished()[1].text == say("forget_done", "en", turns=2, notes=1, feedback=0)
        assert await kefu.operate("conversations.list") == []


async def test_forgetting_can_be_left_alone(tmp_path: Path) -> None:
    """Cancel erases nothing, and takes the buttons away."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("/forget")
        (question,) = await kefu.answers(1)
        kefu.telegram.press(question.button_data[-1])
        await kefu.until(lambda: not kefu.finished()[0].button_data)
        assert kefu.finished()[0].text == say("forget_cancelled", "en")
        assert len(await kefu.operate("conversations.list")) == 1


async def test_in_a_group_only_the_asker_may_erase_and_only_their_words(tmp_path: Path) -> None:
    """Another member's press does nothing; the asker's erases the asker's turns in this group and nobody else's."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("@kefu_bot one", chat=GROUP, user=2001)
        await kefu.answers(1, GROUP)
        kefu.telegram.say("@kefu_bot two", chat=GROUP, user=2002)
        await kefu.answers(2, GROUP)
        kefu.telegram.say("/forget", chat=GROUP, user=2001)
        question = (await kefu.answers(3, GROUP))[2]
        kefu.telegram.press(question.button_data[0], chat=GROUP, user=2002)
        await kefu.until(lambda: kefu.telegram.transcript("answerCallbackQuery"))
        assert kefu.finished(GROUP)[2].button_data
        kefu.telegram.press(question.button_data[0], chat=GROUP, user=2001)
        await kefu.until(lambda: not kefu.finished(GROUP)[2].button_data)
        (conversation,) = await kefu.operate("conversations.list")
        shown = await kefu.operate("conversations.show", id=conversation["id"])
        assert [turn["user_text"] for turn in shown["turns"]] == ["two"]


async def test_a_file_is_read_where_a_command_asks_for_it(tmp_path: Path) -> None:
    """/summarize in reply to a text file works on its text; a lone file gets a hint, a picture a friendly word."""
    async with scene(tmp_path) as kefu:
        sent = kefu.telegram.send_file("document", data=b"Returns are free for 30 days.", name="policy.md")
        assert (await kefu.answers(1))[0].text == say_dialogue("file_hint")
        kefu.telegram.say("/summarize", reply_to=sent.message_id)
        assert "Returns are free" in (await kefu.answers(2))[1].text
        kefu.telegram.send_file("photo", data=b"\xff\xd8")
        assert (await kefu.answers(3))[2].text == say_dialogue("cannot_read")


async def test_a_forward_is_what_the_command_means(tmp_path: Path) -> None:
    """A command and a forwarded message beside it are one turn."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("/translate")
        kefu.telegram.forward("Guten Morgen")
        (answer,) = await kefu.answers(1)
        assert "Guten Morgen" in answer.text


async def test_topics_are_conversations_of_their_own(tmp_path: Path) -> None:
    """Two topics of a forum have two histories, and each answer appears in its topic."""
    async with scene(tmp_path) as kefu:
        for thread in (7, 8):
            kefu.telegram.topic(thread, chat=-1001234567890)
            kefu.telegram.say("@kefu_bot hello", chat=-1001234567890, thread=thread, is_topic_message=True)
        answers = await kefu.answers(2, -1001234567890)
        assert {answer.thread for answer in answers} == {7, 8}
        assert len(await kefu.operate("conversations.list")) == 2


async def test_a_group_that_becomes_a_supergroup_keeps_its_history(tmp_path: Path) -> None:
    """The conversation follows to the new id, whether the service message or a refused call tells of it."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("@kefu_bot before", chat=GROUP)
        await kefu.answers(1, GROUP)
        moved = kefu.telegram.migrate(chat=GROUP)
        kefu.telegram.say("@kefu_bot after", chat=moved)
        await kefu.until(lambda: any("after" in shown.text for shown in kefu.finished(moved)))
        (conversation,) = await kefu.operate("conversations.list")
        assert (conversation["chat"], conversation["turns"]) == (str(moved), 2)


async def test_a_migration_in_the_middle_of_an_answer_loses_nothing(tmp_path: Path) -> None:
    """A call that is refused because the group has moved is made again in the new place."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.faults.script("sendMessage", FaultKind.MIGRATED)
        kefu.telegram.say("@kefu_bot hello", chat=GROUP)
        await kefu.until(lambda: any(kefu.finished(chat) for chat in list(kefu.telegram.state.chats) if chat != GROUP))


async def test_who_blocks_the_bot_is_left_alone(tmp_path: Path) -> None:
    """The answer is failed, visible to the operator, and not tried again."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.faults.script("sendMessage", FaultKind.BLOCKED)
        kefu.telegram.say("hello")
        await kefu.until(lambda: kefu.telegram.transcript("sendMessage"))
        rows: list[dict[str, object]] = []
        while not rows:
            rows = (await kefu.operate("outbox.list", state="failed"))["rows"]
        assert "blocked" in str(rows[0]["error"])
        assert len(kefu.telegram.transcript("sendMessage")) == 1


async def test_a_lost_response_shows_nothing_twice(tmp_path: Path) -> None:
    """The final edit's answer gets lost: it is made again, and the screen shows one answer."""
    async with scene(tmp_path, timeout_s=0.5) as kefu:
        kefu.telegram.faults.script("editMessageText", FaultKind.LOST)
        kefu.telegram.say("hello")
        await kefu.until(lambda: len(kefu.telegram.transcript("editMessageText")) >= 2)
        assert [shown.text for shown in kefu.finished()] == ["You said: hello"]


async def test_refused_formatting_falls_back_to_the_plain_original(tmp_path: Path) -> None:
    """When Telegram does not take the entities, the words arrive as they were written."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.faults.script("editMessageText", FaultKind.ENTITIES)
        kefu.telegram.say("Hello *you*")
        (answer,) = await kefu.answers(1)
        assert (answer.text, answer.entities) == ("You said: Hello *you*", ())


@pytest.mark.usefixtures("previews_at_once")
async def test_a_message_that_somebody_deleted_is_replaced(tmp_path: Path) -> None:
    """An answer whose placeholder is gone goes into a new message."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        kefu.telegram.say(f"@kefu_bot {LONG}", chat=GROUP)
        await kefu.until(lambda: any(shown.is_bot for shown in kefu.telegram.screen(GROUP)))
        placeholder = next(shown for shown in kefu.telegram.screen(GROUP) if shown.is_bot)
        kefu.telegram.state.chats[GROUP].messages[placeholder.message_id].is_deleted = True
        (answer,) = await kefu.answers(1, GROUP)
        assert answer.message_id != placeholder.message_id
        assert answer.text == ("You said: " + LONG).strip()


async def test_people_who_may_not_are_told_once(tmp_path: Path) -> None:
    """Whoever is not on the owner's list hears so; who is blocked hears nothing."""
    access = AccessSection(allow=("telegram:2001",), block=("2002",), messages_per_minute=0)
    async with scene(tmp_path, settings={"access": access}) as kefu:
        kefu.telegram.say("hello", chat=2002)
        kefu.telegram.say("hello", chat=2003)
        kefu.telegram.say("hello", chat=2001)
        assert (await kefu.answers(1, 2003))[0].text == say("not_allowed", "en")
        assert (await kefu.answers(1, 2001))[0].text == "You said: hello"
        assert kefu.finished(2002) == []


async def test_too_many_messages_get_a_polite_answer_once(tmp_path: Path) -> None:
    """Beyond the limit a person is told so, then left unanswered until the minute is over; /privacy always works."""
    async with scene(tmp_path, settings={"access": AccessSection(messages_per_minute=2)}) as kefu:
        for number in range(1, 5):
            kefu.telegram.say(f"hello {number}")
            await kefu.until(lambda: not kefu.telegram.pending())
            await kefu.answers(min(number, 3))
        kefu.telegram.say("/privacy")
        texts = [answer.text for answer in await kefu.answers(4)]
        assert texts[2] == say("limit_minute", "en", limit=2)
        assert texts[3] == say("privacy", "en")


async def test_the_menu_is_set_in_both_languages(tmp_path: Path) -> None:
    """Telegram knows every command, in English for everybody and in Chinese for Chinese users."""
    async with scene(tmp_path) as kefu:
        await kefu.until(lambda: len(kefu.telegram.transcript("setMyCommands")) == 2)
        menus = list(kefu.telegram.commands().values())
        assert [[command["command"] for command in menu] for menu in menus] == [list(COMMANDS), list(COMMANDS)]
        assert any("\u4e00" <= letter <= "\u9fff" for letter in menus[1][0]["description"])


async def test_owners_see_how_it_goes(tmp_path: Path) -> None:
    """/status tells an owner of queues and failures, everybody else only whether the assistant works."""
    async with scene(tmp_path, settings={"access": AccessSection(owners=("telegram:2001",))}) as kefu:
        for chat in (2001, 2002):
            kefu.telegram.say("/status", chat=chat)
        assert "Quarantined" in (await kefu.answers(1, 2001))[0].text
        assert "Quarantined" not in (await kefu.answers(1, 2002))[0].text


@pytest.mark.usefixtures("previews_at_once")
async def test_an_edit_of_what_waits_is_what_is_answered(tmp_path: Path) -> None:
    """A message that is edited before its turn is answered in its new version, once; an answered one is not answered again."""
    async with scene(tmp_path, engine=slow_engine()) as kefu:
        kefu.telegram.say(LONG)
        await kefu.until(lambda: kefu.telegram.draft(CHAT))
        waiting = kefu.telegram.say("first version")
        kefu.telegram.edit(waiting.message_id, "second version")
        second = (await kefu.answers(2))[1]
        assert second.text == "You said: second version"
        kefu.telegram.edit(waiting.message_id, "third version")
        kefu.telegram.say("/help")
        assert len(await kefu.answers(3)) == 3


async def test_no_answer_to_bots(tmp_path: Path) -> None:
    """Two bots would talk for ever."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.state.user(3001).is_bot = True
        kefu.telegram.say("@kefu_bot hello", chat=GROUP, user=3001)
        kefu.telegram.say("@kefu_bot hello", chat=GROUP, user=2001)
        await kefu.until(lambda: any(shown.text == "You said: hello" for shown in kefu.telegram.screen(GROUP)))
        (conversation,) = await kefu.operate("conversations.list")
        assert conversation["turns"] == 1


@pytest.mark.parametrize("token", ["", "123", "123456:short", "abc:" + "A" * 35])
def test_a_malformed_token_is_told_in_a_sentence(token: str, tmp_path: Path) -> None:
    """What cannot be a token is refused before anything is sent anywhere."""
    settings = app_settings(tmp_path).model_copy(update={"telegram": TelegramSection(token=SecretStr(token))})
    with pytest.raises(ChannelRefused, match="malformed"):
        telegram_channel(settings)


def test_drafts_have_numbers() -> None:
    """A draft's number is never 0 and the same in every run of a turn."""
    assert draft_id("0" * 32) == 1
    assert draft_id("01a2118773bd7ae3afc9705de050a7da") == draft_id("01a2118773bd7ae3afc9705de050a7da") > 0


def say_dialogue(key: str) -> str:
    return say_in_dialogue(key, "en")


async def _exported(kefu: Scene) -> dict[str, list[dict[str, object]]]:
    return await kefu.operate("users.export", channel="telegram", account=kefu.channel.account, external_id=str(CHAT))


async def test_rich_messages_where_the_server_has_them(tmp_path: Path) -> None:
    """With the option, an answer is one rich message, however long; a server that has none gets the usual parts."""
    for version, is_rich in (("10.4", True), ("9.6", False)):
        async with scene(tmp_path / version, rich_messages=True, fake={"api_version": version}) as kefu:
            kefu.telegram.say("Hello **you**")
            await kefu.answers(1)
            edits = kefu.telegram.transcript("editMessageText")
            assert ("rich_message" in edits[-1].params) == is_rich
            assert (await kefu.answers(1))[0].button_data
