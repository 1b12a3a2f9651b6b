"""Smaller commands, and the pieces that commands share."""

import io
import json
from pathlib import Path
from unittest import mock

import pytest
import typer

from bot.channels.fake import FakeChannel
from bot.channels.fake_platform import FakePlatform
from bot.cli import bench_storage, consent, progress, run
from bot.cli.person import current_user
from bot.errors import CliError
from bot.settings import Settings
from tests.bot.cli.program import Program, make_program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path)


def test_a_bench_ends_in_one_json_line(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench storage` reports on stderr, prints one JSON object, and leaves nothing behind."""
    monkeypatch.setattr(bench_storage, "QUICK_SIZES", (50, 100))
    ended = program.call("bench", "storage", "--quick", "--samples", "10", "--folder", str(program.folder))
    assert ended.code == 0, ended.stderr
    assert set(json.loads(ended.stdout)["results"]["sqlite"]) == {"50", "100"}
    assert "filling" in ended.stderr
    assert list(program.folder.iterdir()) == []


def test_models_are_listed(program: Program) -> None:
    """Before the first fetch there are none; a reference that cannot be one exits 78."""
    assert json.loads(program.call("models", "list", "--json").stdout) == []
    assert program.call("models", "pull", "nonsense:x").code == 78


def test_an_engine_without_a_model_needs_none(program: Program) -> None:
    """`models pull` says so instead of fetching something that nobody loads."""
    ended = program.call("models", "pull", variables={"KEFU_ENGINE__KIND": "scripted"})
    assert (ended.code, ended.stdout) == (0, "")
    assert "needs no model" in ended.stderr


def test_channels_are_those_that_the_settings_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` asks every installed channel but the terminal; one that is not configured returns None."""
    channel = FakeChannel(FakePlatform())
    factories = {"terminal": mock.Mock(), "off": mock.Mock(return_value=None), "on": mock.Mock(return_value=channel)}
    monkeypatch.setattr(run, "channel_names", lambda: tuple(factories))
    monkeypatch.setattr(run, "load_channel", factories.__getitem__)
    settings = Settings()
    assert run.configured_channels(settings) == [channel]
    factories["terminal"].assert_not_called()
    factories["on"].assert_called_once_with(settings)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    """On a terminal the question is asked, and only a yes goes on."""
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    if agreed:
        consent.ask_consent("All is lost.", yes=False)
    else:
        with pytest.raises(typer.Abort):
            consent.ask_consent("All is lost.", yes=False)


def test_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nothing is lost unless --yes says so."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(CliError, match="Nobody can be asked"):
        consent.ask_consent("All is lost.", yes=False)
    consent.ask_consent("All is lost.", yes=True)


def test_progress_says_one_line_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to wait for, nothing said; otherwise one line on stderr, however often it is updated."""
    with progress.ByteProgress("Fetching"):
        pass
    with progress.ByteProgress("Fetching \x1b[2J") as bar:
        for done in range(5):
            bar.update(done, 5_000_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Fetching \\x1b[2J (5.0 MB) …\n"


def test_a_process_without_a_name_still_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user may be a number only."""
    monkeypatch.setattr("pwd.getpwuid", mock.Mock(side_effect=KeyError))
    monkeypatch.setattr("os.getuid", lambda: 10001)
    assert current_user() == "10001"
