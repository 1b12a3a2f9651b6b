"""The program as a whole: help, global options, exit codes, and that no mistake of a user ends in a traceback."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
import typer

from bot.cli.lazy import LazyCommand, LazyGroup, load_command
from bot.cli.main import COMMANDS, hoist, run
from bot.errors import CliError
from tests.bot.cli.program import KEFU, Program, make_program

HEAVY = frozenset(
    {
        "sqlalchemy",
        "alembic",
        "aiosqlite",
        "xllamacpp",
        "starlette",
        "uvicorn",
        "numpy",
        "tokenizers",
        "prompt_toolkit",
        "torch",
        "transformers",
    }
)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path)


def test_help_loads_none_of_the_heavy_libraries(program: Program) -> None:
    """`kefu --help` imports no database, no engine, no server: that is what keeps it quick."""
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", KEFU, "--help"], env=program.environment, capture_output=True, text=True, check=True
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in traced.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_help_names_every_command(program: Program) -> None:
    """Every command stands in the help with its one line; no command at all shows the help."""
    shown = " ".join(program.call("--help").stdout.split())
    for name, command in COMMANDS.items():
        if name != "finetune":
            assert f"{name} {command.help}" in shown
    assert "Usage" in program.call().stdout


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"finetune"}))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    """Each command, and each command of a group, has a help text and an example; the line in `kefu --help` is its own."""
    command = load_command(name, COMMANDS[name])
    assert command.help.splitlines()[0] == COMMANDS[name].help
    members = getattr(command, "commands", None) or {name: command}
    if isinstance(command, LazyGroup):
        members = {member: load_command(member, command.table[member]) for member in members}
        assert {member: loaded.help.splitlines()[0] for member, loaded in members.items()} == {
            member: entry.help for member, entry in command.table.items()
        }
    for member in members.values():
        assert member.help, member.name
        assert "kefu " in (member.epilog or ""), f"{name} {member.name} has no example"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"finetune"}))
def test_no_help_text_is_taken_for_markup(name: str) -> None:
    """What stands in square brackets would vanish from the help like `[bold]`: `instead of [http] port` read "instead of  port"."""
    command = load_command(name, COMMANDS[name])
    members = dict(getattr(command, "commands", {}))
    if isinstance(command, LazyGroup):
        members = {member: load_command(member, command.table[member]) for member in command.table}
    for member in (command, *members.values()):
        texts = [member.help, member.epilog, *(getattr(param, "help", None) for param in member.params)]
        assert [text for text in texts if text and re.search(r"\[[a-z#/@]", text)] == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["chat", "--debug"], ["--debug", "chat"]),
        (["run", "--log-json", "--port", "1"], ["--log-json", "run", "--port", "1"]),
        (["ask", "x", "--config", "a.toml"], ["--config", "a.toml", "ask", "x"]),
        (["ask", "x", "--log-level=debug"], ["--log-level=debug", "ask", "x"]),
        (["ask", "--", "--debug"], ["ask", "--", "--debug"]),
        (["finetune", "train", "--config", "r.toml"], ["finetune", "train", "--config", "r.toml"]),
        (["--debug", "finetune", "train", "--debug"], ["--debug", "finetune", "train", "--debug"]),
        (["ask", "--config"], ["--config", "ask"]),
    ],
)
def test_global_options_may_stand_behind_the_command(given: list[str], expected: list[str]) -> None:
    """The program's own options are found anywhere before `--`, except behind `finetune`, which has its own."""
    assert hoist(given) == expected


@dataclass(frozen=True, slots=True)
class Mistake:
    """What somebody does wrong, and what comes of it."""

    arguments: str
    code: int
    sentence: str
    toml: str = ""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


MISTAKES = [
    Mistake("bogus", 2, "No such command"),
    Mistake("docter", 2, "Did you mean 'doctor'?"),
    Mistake("ask", 2, "Missing argument"),
    Mistake("chat --bogus", 2, "No such option"),
    Mistake("--log-level loud version", 2, "Invalid value"),
    Mistake("doctor", 78, "kefu.toml: is not valid TOML", toml="[http\n"),
    Mistake("ask x", 78, "kefu.toml: [http] prot: unknown key; did you mean port?", toml="[http]\nprot = 1\n"),
    Mistake("run", 78, "Allowed: a whole number from 0 to 65535", toml="[http]\nport = 'x'\n"),
    Mistake("db current", 78, "DATABASE_URL: is no database URL", variables={"DATABASE_URL": "mysql://u:geheimnis@h/x"}),
    Mistake("conversations list", 78, "in memory", variables={"DATABASE_URL": "sqlite:///:memory:"}),
    Mistake("conversations list", 75, "", variables={"DATABASE_URL": "postgresql://u:geheimnis@127.0.0.1:1/x"}),
    Mistake("db current", 75, "cannot open", variables={"DATABASE_URL": "sqlite:////proc/nowhere/kefu.db"}),
    Mistake("ask x --config nowhere.toml", 78, "nowhere.toml: there is no such file"),
    Mistake("chat --model nonsense:model", 78, "is no model reference"),
    Mistake("run", 78, "/nowhere/model.gguf", variables={"KEFU_MODEL__REFERENCE": "/nowhere/model.gguf"}),
    Mistake("ask x", 78, "nonsense", variables={"KEFU_ENGINE__KIND": "nonsense"}),
    Mistake("run", 78, "The Telegram token is malformed", variables={"TELEGRAM_BOT_TOKEN": "123:geheimnis"}),
    Mistake("run", 78, "Allowed: 1 to 256 letters, digits, _ and -", variables={"KEFU_TELEGRAM__WEBHOOK_SECRET": "geheimnis with blanks"}),
    Mistake("users export --channel telegram --id 5", 2, "`kefu conversations list` shows it"),
    Mistake("replay no-such-turn", 1, "There is no turn no-such-turn"),
    Mistake("conversations show nobody", 1, "There is no conversation nobody"),
    Mistake("db restore nowhere.db --yes", 1, "nowhere.db"),
    Mistake("db upgrade 7777", 2, "there is no schema '7777'"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.arguments} {mistake.code}")
def test_a_mistake_ends_with_a_sentence(program: Program, mistake: Mistake) -> None:
    """Wrong input gives the right exit code, one sentence on stderr, nothing on stdout, and never a traceback or a secret."""
    if mistake.toml:
        (program.folder / "kefu.toml").write_text(mistake.toml)
    ended = program.call(*mistake.arguments.split(), variables=mistake.variables)
    assert (ended.code, ended.stdout) == (mistake.code, ""), ended.stderr
    assert mistake.sentence in ended.stderr
    assert "defect" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "geheimnis" not in ended.stderr


@pytest.mark.parametrize("mistake", [MISTAKES[1], MISTAKES[5], MISTAKES[9]], ids=lambda mistake: f"{mistake.arguments} {mistake.code}")
def test_the_installed_program_does_the_same(program: Program, mistake: Mistake) -> None:
    """As a process of its own, with its own start and end, the program says the same and exits in the same way."""
    if mistake.toml:
        (program.folder / "kefu.toml").write_text(mistake.toml)
    inside = program.call(*mistake.arguments.split(), variables=mistake.variables)
    assert program.spawn(*mistake.arguments.split(), variables=mistake.variables) == inside


def test_debug_shows_the_traceback(program: Program) -> None:
    """--debug, in front or behind, and KEFU_DEBUG=1 add the traceback to the sentence."""
    wrong = {"DATABASE_URL": "mysql://u:geheimnis@h/x"}
    in_front = program.call("--debug", "db", "current", variables=wrong)
    behind = program.call("db", "current", "--debug", variables=wrong)
    by_variable = program.call("db", "current", variables={**wrong, "KEFU_DEBUG": "1"})
    for ended in (in_front, behind, by_variable):
        assert ended.code == 78
        assert "Traceback" in ended.stderr
        assert "geheimnis" not in ended.stderr


def test_a_reader_that_leaves_is_no_accident(program: Program) -> None:
    """`kefu … | head` ends quietly: no traceback, no complaint of the interpreter."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([KEFU, "version"], env=program.environment, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_full_disk_is_said(program: Program) -> None:
    """A result that cannot be written is a failure, not a success without output."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([KEFU, "version"], env=program.environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 75
    assert "No space left on device" in ended.stderr


def test_an_error_cannot_paint_the_terminal(program: Program) -> None:
    """Control characters in what the user gave come back escaped."""
    ended = program.call("ask", "x", "--config", "evil\x1b[2J.toml")
    assert "evil\\x1b[2J.toml" in ended.stderr


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt at any point ends with 130 and without a traceback."""

    monkeypatch.setattr("bot.cli.lazy.load_command", mock.Mock(side_effect=KeyboardInterrupt))
    assert run(["doctor"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_defect_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen exception gives one line, exit code 1 and the way to the traceback."""
    app = typer.Typer()

    @app.command()
    def broken() -> None:
        raise ZeroDivisionError("oops")

    command = typer.main.get_command(app)
    monkeypatch.setattr("bot.cli.lazy.load_command", mock.Mock(return_value=command))
    assert run(["doctor"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "--debug" in said
    assert "Traceback" not in said


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose libraries come with an extra says how to install it; any other missing library is a defect."""
    (tmp_path / "needy.py").write_text("import library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CliError) as caught:
        load_command("finetune", LazyCommand("needy:app", "Train.", needs="finetune"))
    assert str(caught.value) == "`kefu finetune` needs library_that_is_not_there."
    assert "pip install 'kefu[finetune]'" in caught.value.hint
    with pytest.raises(ModuleNotFoundError):
        load_command("chat", LazyCommand("needy:app", "Chat."))


def test_init_writes_once(program: Program) -> None:
    """`kefu init` writes a valid file, names it on stdout, and does not touch one that is there unless told."""
    assert program.call("init").stdout == "kefu.toml\n"
    target = program.folder / "kefu.toml"
    target.write_text("[http]\nport = 9\n")
    refused = program.call("init")
    assert (refused.code, target.read_text()) == (1, "[http]\nport = 9\n")
    assert "--force" in refused.stderr
    assert program.call("init", "--force").code == 0
    assert "#port = 8642" in target.read_text()
    assert program.call("init", "--path", "etc/kefu/own.toml").stdout == "etc/kefu/own.toml\n"
    assert program.call("init", "--path", ".", "--force").stdout == "kefu.toml\n"


def test_an_unreadable_file_is_named(program: Program) -> None:
    """A settings file that may not be read is named, with the reason."""
    (program.folder / "kefu.toml").mkdir()
    ended = program.call("db", "current")
    assert ended.code == 78
    assert "kefu.toml: cannot be read" in ended.stderr
