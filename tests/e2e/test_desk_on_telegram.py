"""A person at the desk beside a `kefu run` that serves Telegram: the commands reach it over its control socket, people see what they did.

The program, the fake Telegram and pytest are three processes. SQLite's file belongs to the program, so a command that did
not go through the socket would be refused.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.channels.telegram.fake_client import FakeTelegramClient
from bot.channels.telegram.fake_server import TOKEN
from tests.bot.cli.program import Program, make_program
from tests.bot.cli.test_programs import START_S, Server

STRANGER = TOKEN.replace("123456789", "987654321")  # has the shape of a token
SETTINGS = {
    "TELEGRAM_BOT_TOKEN": TOKEN,
    "KEFU_ENGINE__KIND": "scripted",
    "KEFU_HTTP__ENABLED": "false",
    "KEFU_DIALOGUE__QUIET_WINDOW_S": "0",
}


@dataclass(frozen=True)
class Running:
    """A program that serves Telegram, and the people there."""

    program: Program
    telegram: FakeTelegramClient

    def read(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        ended = self.program.call(*arguments, "--json")
        assert ended.code == 0, ended.stderr
        return json.loads(ended.stdout)

    def conversation(self, chat: int, *options: str) -> Any:
        """Return the conversation of a chat as `kefu conversations list` has it, None where it does not have it."""
        listed = self.read("conversations", "list", *options)
        return next((one for one in listed if one["chat"] == str(chat)), None)

    def said(self, chat: int) -> list[str]:
        """Return what the bot shows in a chat."""
        return [shown.text for shown in self.telegram.screen(chat) if shown.is_bot]

    def until(self, happened: Callable[[], object]) -> None:
        """Ask the processes again and again until something has happened."""
        deadline = time.monotonic() + START_S
        while not happened():
            assert time.monotonic() < deadline
            os.sched_yield()

    def talk(self, chat: int, text: str, answer: str) -> None:
        """Write as a person and wait for an answer that begins like this."""
        self.telegram.say(text, chat=chat)
        self.until(lambda: self.said(chat)[-1:] and self.said(chat)[-1].startswith(answer))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One program for all tests of this file; each has a chat of its own."""
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--no-limits", "--pace", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        with FakeTelegramClient(fake.stdout.readline().strip()) as telegram:
            program = make_program(tmp_path_factory.mktemp("desk"), KEFU_TELEGRAM__BASE_URL=telegram.base_url, **SETTINGS)
            server = Server(program)
            try:
                server.wait_for("app.ready")
                yield Running(program, telegram)
                assert server.stop() == 0
            finally:
                server.process.kill()
                server.process.wait()
                fake.terminate()


def test_a_person_takes_over_and_gives_back(running: Running) -> None:
    """Who asks for a person is listed, is answered by that person alone, and by the bot again after the release."""
    chat = 1001
    running.talk(chat, "hello", "You said: hello")
    running.talk(chat, "/human", "I have asked a colleague")
    conversation = running.conversation(chat, "--waiting")["id"]
    assert "the bot is silent" in running.program.call("conversations", "take", conversation).stderr
    assert running.conversation(chat, "--waiting") is None
    assert running.program.call("conversations", "say", conversation, "Good morning, I am Ada.").stderr == "Sent.\n"
    assert running.said(chat)[-1] == "Good morning, I am Ada."
    running.telegram.say("are you a bot?", chat=chat)
    running.until(lambda: running.conversation(chat)["turns"] == 3)
    assert running.said(chat)[-1] == "Good morning, I am Ada."
    assert running.program.call("conversations", "release", conversation).code == 0
    running.talk(chat, "and now?", "You said: are you a bot?\n\nand now?")


def test_what_did_not_arrive_is_dealt_with(running: Running) -> None:
    """A refused message is told at once, is listed with its reason, counted by doctor, and can be tried again or given up."""
    chat = 1002
    running.talk(chat, "hello", "You said: hello")
    conversation = running.conversation(chat)["id"]
    assert running.program.call("conversations", "take", conversation).code == 0
    running.telegram.call("block", chat=chat)
    refused = running.program.call("conversations", "say", conversation, "Good morning.")
    assert (refused.code, "blocked" in refused.stderr) == (1, True)
    (row,) = running.read("outbox", "list", "--state", "failed")
    assert (row["conversation_id"], row["attempts"], "blocked" in row["error"]) == (conversation, 1, True)
    assert "kefu outbox list --state failed" in running.program.call("doctor").stdout
    running.telegram.call("unblock", chat=chat)
    assert running.program.call("outbox", "retry", row["id"]).code == 0
    running.until(lambda: running.said(chat)[-1] == "Good morning.")
    running.until(lambda: running.read("outbox", "list", "--state", "failed") == [])
    gone = running.program.call("outbox", "drop", row["id"], "--yes")
    assert (gone.code, "nothing to drop" in gone.stderr) == (1, True)


def test_doctor_knows_whose_token_it_is(running: Running) -> None:
    """Asked to go deep, doctor names the bot, or says what Telegram has against the token or that nobody is there."""
    assert "the token is that of @kefu_bot" in running.program.call("doctor", "--deep").stdout
    refused = running.program.call("doctor", "--deep", variables={"TELEGRAM_BOT_TOKEN": STRANGER})
    assert (refused.code, "does not know this token" in refused.stdout) == (1, True)
    alone = running.program.call("doctor", "--deep", variables={"KEFU_TELEGRAM__BASE_URL": "http://127.0.0.1:9"})
    assert (alone.code, "http://127.0.0.1:9: no connection" in alone.stdout) == (1, True)


def test_a_refused_token_ends_the_program(running: Running, tmp_path: Path) -> None:
    """A token that Telegram does not know is a mistake in the settings: exit code 78 and what to do."""
    ended = make_program(tmp_path, **running.program.variables).spawn("run", variables={"TELEGRAM_BOT_TOKEN": STRANGER})
    assert (ended.code, "Copy the token whole from @BotFather" in ended.stderr) == (78, True)
    assert STRANGER not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_file_belongs_to_the_program(running: Running) -> None:
    """The commands above had no other way in: a second program is refused with the name of the first."""
    ended = running.program.call("run")
    assert (ended.code, "in use by process" in ended.stderr) == (75, True)
