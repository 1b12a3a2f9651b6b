"""`kefu finetune scrub` as a person calls it."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from finetune.cli import app


def run(*arguments: str) -> Result:
    """Return what the command says."""
    return CliRunner().invoke(app, ["scrub", *arguments], catch_exceptions=False)


def test_a_file_is_scrubbed_to_stdout(tmp_path: Path) -> None:
    """The clean text goes to stdout as it was, the counts to stderr."""
    file = tmp_path / "letter.txt"
    file.write_text("Mail ann@x.org\n\nAddress:\n12 Main Street\nSpringfield, IL 62704\n", encoding="utf-8")
    result = run(str(file))
    assert result.stdout == "Mail [EMAIL]\n\nAddress:\n[ADDRESS]\n"
    assert "EMAIL: 1" in result.stderr


def test_the_measure_ends_with_json(tmp_path: Path) -> None:
    """With --measure --json a table is printed, and the last line is the same as JSON."""
    file = tmp_path / "marked.jsonl"
    span = {"entity_type": "EMAIL_ADDRESS", "start_position": 5, "end_position": 14}
    file.write_text(json.dumps({"full_text": "Mail ann@x.org", "spans": [span]}), encoding="utf-8")
    result = run(str(file), "--measure", "--json")
    table, last = result.stdout.splitlines()[0], json.loads(result.stdout.splitlines()[-1])
    assert table.split()[:5] == ["kind", "marked", "found", "recall", "precision"]
    assert last["kinds"][0] | {"kind": "EMAIL", "marked": 1, "recall": 1.0, "precision": 1.0} == last["kinds"][0]
