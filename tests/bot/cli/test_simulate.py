"""`kefu simulate` as an operator calls it."""

import json
from pathlib import Path

from bot.errors import ExitCode
from tests.bot.cli.program import make_program

SHORT = ("simulate", "--engine", "scripted", "--people", "2", "--minutes", "0.02", "--rate", "120")


def test_the_summary_is_json_on_stdout(tmp_path: Path) -> None:
    """With --json one object on stdout says what happened, and the exit code that nothing was lost."""
    ended = make_program(tmp_path).call(*SHORT, "--json")
    assert ended.code == ExitCode.OK, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["answered"] >= 1
    assert (summary["lost"], summary["twice"], summary["interrupted"]) == (0, 0, False)


def test_the_summary_is_a_table_and_a_verdict(tmp_path: Path) -> None:
    """Without --json stdout says for people what happened, and whether the promises held."""
    ended = make_program(tmp_path).call(*SHORT)
    assert ended.code == ExitCode.OK, ended.stderr
    assert "answered" in ended.stdout
    assert ended.stdout.endswith("No message was lost, no answer was shown twice.\n")


def test_the_database_is_kept_where_it_was_asked_for_and_never_used_again(tmp_path: Path) -> None:
    """--keep leaves the database in a new folder, and refuses one that holds a database: it might be the real one."""
    program = make_program(tmp_path)
    kept = program.folder / "kept"
    first, second = program.call(*SHORT, "--keep", str(kept)), program.call(*SHORT, "--keep", str(kept))
    assert first.code == ExitCode.OK, first.stderr
    assert (kept / "kefu.db").exists()
    assert not (program.data_dir / "kefu.db").exists()
    assert second.code == ExitCode.USAGE
    assert "database" in second.stderr
    nowhere = program.call(*SHORT, "--keep", "/proc/nowhere")
    assert (nowhere.code, "/proc/nowhere cannot be used" in nowhere.stderr) == (ExitCode.USAGE, True)


def test_a_script_that_says_nothing_is_refused(tmp_path: Path) -> None:
    """A script without lines, none at all, and one that is no text end with a sentence."""
    program = make_program(tmp_path)
    (program.folder / "empty.txt").write_text("\n\n")
    (program.folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("empty.txt", "missing.txt", "binary.txt"):
        ended = program.call(*SHORT, "--script", name)
        assert ended.code == ExitCode.USAGE
        assert name in ended.stderr
