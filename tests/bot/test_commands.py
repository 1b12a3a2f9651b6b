"""Direct commands: answered at once, in the user's language, without a generation."""

import json
import stat
from pathlib import Path

import pytest

from bot.channels.terminal import TerminalChannel
from storage.clock import ManualClock
from storage.database import Database
from storage.records import TurnStatus
from tests.bot.rig import Rig, build_rig
from tests.contracts.channels import MemoryScreen

COMMANDS = ("start", "help", "new", "stop", "privacy", "export", "status")


async def _answer(rig: Rig, text: str, **event: object) -> str:
    await rig.say(text, **event)
    await rig.work()
    return rig.platform.shown()[-1]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_every_command_answers_in_the_users_language(database: Database, command: str, language: str) -> None:
    """Each has words in English and Chinese, makes a turn that stays out of later prompts, and asks no engine."""
    rig = await build_rig(database)
    await rig.say(f"/language {language}")
    answer = await _answer(rig, f"/{command}")
    has_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in answer)
    assert has_chinese == (language == "zh")
    turn = (await rig.turns())[-1]
    assert (turn.status, turn.engine, turn.prompt_tokens) == (TurnStatus.ANSWERED, "", 0)
    conversation = await rig.conversation()
    assert await database.read(lambda unit: unit.turns.window(conversation.id)) == ()


async def test_help_lists_every_skill_and_command(database: Database) -> None:
    """What can be used is in /help, each in one line; what platforms send by themselves is not."""
    answer = await _answer(await build_rig(database), "/help")
    for name in ("chat", "support", "translate", "summarize", "write", "remember", "forget", "help", "new", "stop", "export", "status"):
        assert sum(line.startswith(f"/{name} ") for line in answer.splitlines()) == 1
    assert "/start" not in answer


async def test_new_leaves_the_old_turns_out_of_the_prompt(database: Database) -> None:
    """After /new the window begins with the next turn; the old ones stay in the database."""
    rig = await build_rig(database)
    await _answer(rig, "before")
    await _answer(rig, "/new")
    await _answer(rig, "after")
    conversation = await rig.conversation()
    window = await database.read(lambda unit: unit.turns.window(conversation.id, after_seq=conversation.window_start - 1))
    assert [turn.user_text for turn in window] == ["after"]
    assert len(await rig.turns()) == 3


async def test_export_in_the_terminal_saves_a_private_file(database: Database, tmp_path: Path) -> None:
    """The person at this machine gets a file with all of their own words, nobody else's, that nobody else can read."""
    screen = MemoryScreen()
    channel = TerminalChannel(screen, user="ann", max_chars=100)
    rig = await build_rig(database, also=channel, export_dir=tmp_path / "exports")
    await rig.say("bob's secret", sender="bob")
    lines = ("/remember likes tea", "my own words", "/export")
    await rig.inlet(channel).accept([channel.item(line) for line in lines])
    await rig.work()
    (path,) = (tmp_path / "exports").iterdir()
    assert str(path) in screen.said("owe")[-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert json.loads(text)["user_id"]
    assert ("my own words" in text, "likes tea" in text, "secret" in text) == (True, True, False)


async def test_export_elsewhere_names_the_operator(database: Database) -> None:
    """Where no file can be sent, the answer says who can."""
    answer = await _answer(await build_rig(database), "/export")
    assert "operator" in answer or "Whoever runs" in answer


async def test_status_tells_when_the_engine_is_away(database: Database, clock: ManualClock) -> None:
    """/status works without an engine, and says what is the matter."""
    rig = await build_rig(database)
    assert "I am ready" in await _answer(rig, "/status")
    await rig.engine.close()
    assert "cannot answer" in await _answer(rig, "/status")
