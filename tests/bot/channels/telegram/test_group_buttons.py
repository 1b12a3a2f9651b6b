"""Buttons in groups: for whom they are, and to which conversation they belong."""

from pathlib import Path

from bot.channels.telegram.fake_chats import Press
from dialogue.byte_chat import echo_user
from dialogue.engine.scripted import ScriptedEngine
from tests.bot.channels.telegram.scene import GROUP, Scene, scene

FORUM, TOPIC = -1001234567890, 7
ANN, BOB = 2001, 2002
LONG = "word " * 100  # long enough to be seen growing


def press_under_old_message(kefu: Scene, data: str, message_id: int) -> None:
    """Ann presses a button under a message of which Telegram tells no more than its chat and number."""
    telegram = kefu.telegram
    chat = telegram.state.open_chat(FORUM).json()
    telegram.state.presses["old"] = Press("old", ANN, FORUM, data, telegram.state.now())
    under = {"chat": chat, "message_id": message_id, "date": 0}
    sender = telegram.state.user(ANN).json()
    telegram.push({"callback_query": {"id": "old", "from": sender, "message": under, "chat_instance": "1", "data": data}})


async def test_the_stop_button_is_for_who_is_answered(tmp_path: Path) -> None:
    """Another member presses it in vain, and is not left waiting; then the asker's press ends the answer."""
    async with scene(tmp_path, engine=ScriptedEngine(echo_user, token_delay_s=0.01)) as kefu:
        kefu.telegram.say(f"@kefu_bot {LONG}", chat=GROUP, user=ANN)
        await kefu.until(lambda: any("stop" in shown.button_data for shown in kefu.telegram.screen(GROUP)))
        in_vain = kefu.telegram.press("stop", chat=GROUP, user=BOB)
        await kefu.until(lambda: kefu.telegram.pending() == 0)
        kefu.telegram.press("stop", chat=GROUP, user=ANN)
        (answer,) = await kefu.answers(1, GROUP)
        assert answer.text.startswith("You said: word")
        assert len(answer.text) < len(LONG)
        await kefu.until(lambda: kefu.telegram.answer_to(in_vain.query_id) is not None)


async def test_an_old_button_in_a_topic_acts_on_its_answer(tmp_path: Path) -> None:
    """Its message does not tell the topic any more; the opinion names the answer, and the buttons under that are marked."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.topic(TOPIC, chat=FORUM)
        kefu.telegram.say("@kefu_bot hello", chat=FORUM, user=ANN, thread=TOPIC, is_topic_message=True)
        (answer,) = await kefu.answers(1, FORUM)
        press_under_old_message(kefu, answer.button_data[0], answer.message_id)
        await kefu.until(lambda: "✓ 👍" in str(kefu.finished(FORUM)[0].buttons))


async def test_an_old_button_that_names_no_answer_does_nothing(tmp_path: Path) -> None:
    """Whoever asks in a topic to be forgotten there, and presses late, is not forgotten in the main conversation instead."""
    async with scene(tmp_path) as kefu:
        kefu.telegram.say("@kefu_bot hello", chat=FORUM, user=ANN)
        kefu.telegram.topic(TOPIC, chat=FORUM)
        kefu.telegram.say("/forget", chat=FORUM, user=ANN, thread=TOPIC, is_topic_message=True)
        await kefu.answers(2, FORUM)
        question = next(shown for shown in kefu.finished(FORUM) if shown.thread == TOPIC)
        press_under_old_message(kefu, question.button_data[0], question.message_id)
        await kefu.until(lambda: kefu.telegram.answer_to("old") is not None)
        kefu.telegram.say("@kefu_bot again", chat=FORUM, user=ANN)
        assert question in await kefu.answers(3, FORUM)
