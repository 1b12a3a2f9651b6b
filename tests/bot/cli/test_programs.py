"""chat, ask and run: the true program with an engine that echoes, alone and beside one another."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.cli.person import current_user
from storage.testing import drop_postgres, postgres_config
from tests.bot.cli.program import KEFU, Program, make_program

CANARY = "canary-5e1f"
START_S = 60.0  # on a machine that does other things too


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path, KEFU_ENGINE__KIND="scripted", KEFU_HTTP__PORT="0")


class Server:
    """A `kefu run` of its own process, and what it has logged."""

    def __init__(self, program: Program) -> None:
        self.log = program.folder / "run.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [KEFU, "run", "--log-json"], cwd=program.folder, env=program.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def events(self, name: str) -> list[dict[str, object]]:
        return [record for record in map(json.loads, self.log.read_text().splitlines()) if record["event"] == name]

    def wait_for(self, name: str) -> dict[str, object]:
        """Return the first record of this event; the process itself is what is waited for, so it is asked again and again."""
        deadline = time.monotonic() + START_S
        while not self.events(name):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            os.sched_yield()
        return self.events(name)[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(START_S)


@pytest.fixture
def server(program: Program) -> Iterator[Server]:
    server = Server(program)
    try:
        server.wait_for("app.ready")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_piped_lines_are_answered_in_order(program: Program) -> None:
    """Each line of stdin gets its answer on stdout and nothing else does; the end of the input ends the program with 0."""
    ended = program.spawn("chat", text="one\ntwo\n\nthree\n")
    assert (ended.code, ended.stdout) == (0, "You said: one\nYou said: two\nYou said: three\n")
    assert program.spawn("chat", text="").code == 0


def test_erasing_oneself_forgets_what_was_typed(program: Program) -> None:
    """Who erases their own terminal chat also loses the lines that the arrow keys bring back."""
    assert program.spawn("chat", text="a secret\n").code == 0
    typed = program.data_dir / "chat_history"
    typed.write_text("+a secret\n")
    assert program.call("users", "erase", "--channel", "terminal", "--id", current_user(), "--yes").code == 0
    assert not typed.exists()


def test_ask_prints_the_answer_alone(program: Program) -> None:
    """`ask` prints the answer, from an argument and from stdin; --json adds what it was made of."""
    assert program.spawn("ask", "hello").stdout == "You said: hello\n"
    told = json.loads(program.spawn("ask", "-", "--json", text="from stdin\n").stdout)
    assert told["answer"] == "You said: from stdin"
    assert {"turn_id", "engine", "adapter", "tokens", "timings_ms"} <= told.keys()
    assert (told["engine"], told["tokens"]["completion"] > 0) == ("scripted:scripted", True)


def test_a_turn_is_replayed(program: Program) -> None:
    """`replay` shows what a turn was made of; with --generate it makes the answer again and says whether it is the same."""
    turn_id = json.loads(program.call("ask", "hello", "--json").stdout)["turn_id"]
    shown = program.call("replay", turn_id)
    for part in ("made by", "sampling", "seed: ", "prompt ids", "timings", "reply\nYou said: hello"):
        assert part in shown.stdout
    again = json.loads(program.call("replay", turn_id, "--generate", "--json").stdout)
    assert again["generated"] == {"text": "You said: hello", "identical": True}
    assert again["turn"]["id"] == turn_id


def test_a_command_has_nothing_to_replay(program: Program) -> None:
    """A turn that no model answered says so."""
    turn_id = json.loads(program.call("ask", "/help", "--json").stdout)["turn_id"]
    ended = program.call("replay", turn_id)
    assert (ended.code, ended.stdout) == (1, "")
    assert "document" in ended.stderr


def test_doctor_goes_deep(program: Program) -> None:
    """`doctor --deep` starts the engine and says what it serves."""
    report = json.loads(program.call("doctor", "--deep", "--json").stdout)
    assert report["ok"] is True
    assert any("started in" in finding["message"] for finding in report["findings"])


@pytest.mark.parametrize(("arguments", "text"), [(("ask", "  "), ""), (("ask", "-"), ""), (("ask", "x" * 16_001), "")])
def test_a_question_has_a_size(program: Program, arguments: tuple[str, ...], text: str) -> None:
    """No question, and one that is too long, are usage errors; no engine is started for them."""
    ended = program.spawn(*arguments, text=text)
    assert (ended.code, ended.stdout) == (2, "")
    assert "question" in ended.stderr


def test_every_command_works_beside_a_running_kefu(program: Program, server: Server) -> None:
    """What can be done through the control socket is done; the rest exits 75 and names who holds the file."""
    asked = json.loads(program.call("ask", "hello", "--json").stdout)
    assert asked["answer"] == "You said: hello"
    (conversation,) = json.loads(program.call("conversations", "list", "--json").stdout)
    shown = json.loads(program.call("conversations", "show", conversation["id"], "--json").stdout)
    assert shown["turns"][0]["id"] == asked["turn_id"]
    current = json.loads(program.call("db", "current", "--json").stdout)
    assert current["current"] == current["head"]
    assert program.call("db", "backup", "copy.db").code == 0
    assert (program.folder / "copy.db").stat().st_size > 0

    person = ("--channel", "ask", "--account", conversation["account"], "--id", current_user())
    assert "hello" in program.call("users", "export", *person).stdout
    assert program.call("users", "erase", *person, "--yes").code == 0
    assert json.loads(program.call("conversations", "list", "--json").stdout) == []

    for arguments in (("db", "upgrade"), ("db", "downgrade", "base", "--yes"), ("db", "restore", "copy.db", "--yes"), ("chat",), ("run",)):
        refused = program.spawn(*arguments)
        assert (refused.code, refused.stdout) == (75, ""), arguments
        assert f"process {server.process.pid} (kefu run)" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert server.stop() == 0


def test_doctor_beside_a_running_kefu(program: Program, server: Server) -> None:
    """Doctor finds the database in use, asks the owner about the queues, and finds no error."""
    report = json.loads(program.call("doctor", "--json").stdout)
    assert report["ok"] is True
    database = next(finding for finding in report["findings"] if finding["check"] == "database")
    assert f"process {server.process.pid} (kefu run)" in database["message"]


def test_health_pages_and_quiet_logs(program: Program, server: Server) -> None:
    """The pages answer on the logged port; at info the log tells of the turn by ids and never of what was said."""
    listening = server.wait_for("http.listening")
    with urllib.request.urlopen(f"http://{listening['host']}:{listening['port']}/readyz", timeout=10) as answer:
        assert json.load(answer) == {"ready": True, "reasons": []}
    turn_id = json.loads(program.call("ask", f"{CANARY} hello", "--json").stdout)["turn_id"]
    assert server.stop() == 0
    log = server.log.read_text()
    assert turn_id in log
    assert CANARY not in log
    for line in log.splitlines():
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", json.loads(line)["event"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_the_server(server: Server, number: signal.Signals, code: int) -> None:
    """SIGTERM ends `kefu run` with 0, Ctrl-C with 130, both without a traceback."""
    assert server.stop(number) == code
    assert "Traceback" not in server.log.read_text()


def test_a_taken_port_is_a_sentence(program: Program, server: Server) -> None:
    """A port that another program has exits 75 and names the address and the setting."""
    port = server.wait_for("http.listening")["port"]
    other = Program(program.folder / "other", {**program.variables, "KEFU_HTTP__PORT": str(port)})
    other.folder.mkdir()
    ended = other.spawn("run")
    assert ended.code == 75
    assert f"http://127.0.0.1:{port}" in ended.stderr
    assert "[http] port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_ctrl_c_while_piped_is_130(program: Program) -> None:
    """A program that talks to `kefu chat` and is interrupted leaves without a traceback."""
    chat = subprocess.Popen([KEFU, "chat"], cwd=program.folder, env=program.environment, stdin=-1, stdout=-1, stderr=-1, text=True)
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write("hello\n")
    chat.stdin.flush()
    assert chat.stdout.readline() == "You said: hello\n"
    chat.send_signal(signal.SIGINT)
    _, stderr = chat.communicate(timeout=START_S)
    assert chat.returncode == 130
    assert "Traceback" not in stderr


def test_a_reader_that_leaves_ends_the_chat(program: Program) -> None:
    """`kefu chat < questions | head -1` ends by itself, quietly."""
    reader, writer = os.pipe()
    chat = subprocess.Popen(
        [KEFU, "chat"], cwd=program.folder, env=program.environment, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.close(reader)
    _, stderr = chat.communicate("one\ntwo\nthree\n", timeout=START_S)
    assert (chat.returncode, stderr) == (1, "")


def test_programs_share_a_postgres(tmp_path: Path, postgres_url: str) -> None:
    """On PostgreSQL `chat` works beside `run`; the control socket serves, and what would pull the ground away is refused."""
    config = postgres_config(postgres_url)
    program = make_program(tmp_path, KEFU_ENGINE__KIND="scripted", KEFU_HTTP__PORT="0", DATABASE_URL=config.url)
    server = Server(program)
    try:
        server.wait_for("app.ready")
        assert program.spawn("chat", text="hello\n").stdout == "You said: hello\n"
        assert json.loads(program.call("ask", "hi", "--json").stdout)["answer"] == "You said: hi"
        assert {row["channel"] for row in json.loads(program.call("conversations", "list", "--json").stdout)} == {"terminal", "ask"}
        for arguments in (("db", "downgrade", "base", "--yes"), ("db", "restore", "copy.db", "--yes")):
            refused = program.call(*arguments)
            assert (refused.code, "A Kefu is running on this database" in refused.stderr) == (75, True)
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
        drop_postgres(postgres_url, config)
