"""The fake server as a process of its own, and the client that plays the people from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest

from bot.channels.telegram.fake_client import FakeTelegramClient
from bot.channels.telegram.fake_faults import Fault, FaultKind
from bot.channels.telegram.fake_server import TOKEN


@pytest.fixture(scope="module")
def client() -> Iterator[FakeTelegramClient]:
    """People at a fake server in another process."""
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--no-limits", "--pace", "0", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with FakeTelegramClient(process.stdout.readline().strip()) as people:
            yield people
        process.terminate()


def call(client: FakeTelegramClient, method: str, **params: object) -> httpx2.Response:
    return httpx2.post(f"{client.base_url}/bot{TOKEN}/{method}", json=params, trust_env=False)


def test_a_port_in_use_ends_with_a_sentence(client: FakeTelegramClient) -> None:
    """Who starts it twice on one port hears so in one line, and gets no traceback."""
    port = client.base_url.rpartition(":")[2]
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(f"Port {port} cannot be listened on")


def test_the_options_are_explained() -> None:
    """--help says of each option what it is for."""
    command = [sys.executable, "-m", "bot.channels.telegram.fake_server", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}).stdout
    options = told.split("\n  --")[1:]
    assert len(options) == 10
    assert all(len(option.split()) > 3 for option in options)


def test_people_write_and_see(client: FakeTelegramClient) -> None:
    """What people do and see goes through the client as it does in the process."""
    client.say("hello", chat=5)
    client.send_file("document", chat=5, data=b"\x00\xff", name="a.bin")
    updates = call(client, "getUpdates").json()["result"]
    assert client.file(updates[1]["message"]["document"]["file_id"]) == b"\x00\xff"
    markup = {"inline_keyboard": [[{"text": "Yes", "callback_data": "yes"}]]}
    call(client, "sendMessage", chat_id=5, text="answer", reply_markup=markup)
    shown = client.screen(5)[-1]
    assert (shown.text, shown.is_bot, shown.buttons, shown.texts) == ("answer", True, (("Yes",),), ("answer",))
    assert client.press("yes", chat=5).data == "yes"
    client.edit(1, "hello again", chat=5)
    assert [call.method for call in client.transcript("sendMessage")] == ["sendmessage"]
    assert client.pending() == 4


def test_faults_and_refusals(client: FakeTelegramClient) -> None:
    """Faults are scripted from outside; what the server does not do is a ValueError."""
    client.say("hello", chat=6)
    client.script("sendMessage", FaultKind.ERROR, Fault(FaultKind.BUSY, 2), None)
    assert [call(client, "sendMessage", chat_id=6, text="x").status_code for _ in range(2)] == [502, 429]
    with pytest.raises(ValueError, match="no button"):
        client.press("nothing", chat=6)
    with pytest.raises(ValueError, match="no such operation"):
        client.call("__init__")


def test_drafts_and_limits(client: FakeTelegramClient) -> None:
    """Drafts are seen, and raw bytes pushed, from outside."""
    client.say("hello", chat=7)
    call(client, "sendMessageDraft", chat_id=7, draft_id=1, text="thinking")
    assert [draft.texts for draft in client.drafts(7)] == [["thinking"]]
    assert client.push(b'"message":1', owner=7) > 0
    assert (client.settle(), client.violations()) == (0, 0)
