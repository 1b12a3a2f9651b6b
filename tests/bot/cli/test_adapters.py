"""`kefu adapters`, with the true program on a SQLite file: what is printed, exit codes, and what doctor says."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.cli.adapter_check import check_adapter, judge
from bot.cli.findings import Finding, Status, ok
from bot.settings import Settings
from bot.settings_sections import ModelSection, PathsSection
from tests.bot.adapter_scene import verdict_of
from tests.bot.cli.program import Ended, Program, make_program
from tests.dialogue.engine.adapter_folders import TINY, random_tensors, write_adapter


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return make_program(tmp_path, KEFU_ENGINE__KIND="scripted")


def training_run(program: Program, name: str, seed: int = 1, *reasons: str, passed: bool | None = True) -> Path:
    """Write what training and evaluation leave behind, and return its folder."""
    run = program.folder / "runs" / name
    adapter = write_adapter(run / "adapter", tensors=random_tensors(TINY, ("q_proj", "v_proj"), 4, seed))
    if passed is not None:
        (run / "evaluation").mkdir()
        (run / "evaluation" / "verdict.json").write_text(verdict_of(adapter, *reasons, passed=passed), encoding="utf-8")
    return run


def read(program: Program, *arguments: str) -> Any:
    """Return what a command prints as JSON."""
    ended = program.call("adapters", *arguments, "--json")
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def statuses(program: Program) -> dict[str, str]:
    """Return the status of each release by its name."""
    return {release["name"]: release["status"] for release in read(program, "list")["releases"]}


def doctor(program: Program) -> str:
    """Return what doctor says about the adapter."""
    (line,) = [line for line in program.call("doctor").stdout.splitlines() if line.split()[1:2] == ["adapter"]]
    return line


def test_from_a_training_run_to_the_active_release(program: Program) -> None:
    """Import, list, show, promote: each says what happened and what comes next; the table has all that an owner asks for."""
    empty = program.call("adapters", "list")
    assert (empty.code, empty.stdout, "There is no release" in empty.stderr) == (0, "", True)
    imported = program.call("adapters", "import", str(training_run(program, "shop", 1, "support_loss fell by 0.3 nats.")))
    assert (imported.code, "candidate, verdict: passed" in imported.stderr, "kefu adapters promote" in imported.stderr) == (0, True, True)
    listed = program.call("adapters", "list").stdout
    for cell in ("shop", "candidate", "passed", "chat, support", TINY.sha256[:12]):
        assert cell in listed
    promoted = program.call("adapters", "promote", "shop", "--reason", "spring")
    assert (promoted.code, "Active: shop" in promoted.stderr, "next start of Kefu" in promoted.stderr) == (0, True, True)
    shown = program.call("adapters", "show", "shop").stdout
    for cell in ("support_loss fell by 0.3 nats.", TINY.sha256, "operator", "spring", "active"):
        assert cell in shown
    assert "is active for chat, support" in doctor(program)


def test_a_plain_folder_is_imported_too(program: Program) -> None:
    """A folder without a run around it is taken under its own name, with a verdict of its own and for other skills."""
    folder = write_adapter(program.folder / "mine")
    verdict = program.folder / "verdict.json"
    verdict.write_text(verdict_of(folder), encoding="utf-8")
    release = read(program, "import", "mine", "--verdict", "verdict.json", "--skill", "translate", "--skill", "chat")
    assert (release["name"], release["passed"], release["skills"]) == ("mine", True, ["translate", "chat"])
    without = program.call("adapters", "import", "mine", "--name", "bare")
    assert (without.code, "candidate, verdict: none" in without.stderr, "promote" in without.stderr) == (0, True, False)
    (program.folder / "bad.json").write_bytes(b"\xff\xfe")
    assert program.call("adapters", "import", "mine", "--verdict", "bad.json").code == 2
    (program.folder / "mine" / "modeling.py").write_text("")
    hostile = program.call("adapters", "import", "mine")
    assert (hostile.code, "cannot be served" in hostile.stderr) == (1, True)


def test_a_verdict_against_it_is_told_in_words(program: Program) -> None:
    """Promotion of what did not pass exits 1 with the verdict's reasons and the way around; force takes a reason."""
    program.call("adapters", "import", str(training_run(program, "worse", 1, "chat_refusals rose by 9 points.", passed=False)))
    refused = program.call("adapters", "promote", "worse")
    assert (refused.code, "chat_refusals rose by 9 points." in refused.stderr, "--force --reason" in refused.stderr) == (1, True, True)
    assert program.call("adapters", "promote", "worse", "--force").code == 2
    assert program.call("adapters", "promote", "worse", "--force", "--reason", "a fair").code == 0
    assert "forced" in program.call("adapters", "list").stdout
    assert "a fair" in program.call("adapters", "show", "worse").stdout


def test_back_and_forth(program: Program) -> None:
    """Rollback, again, to the base model, and an old release once more; what is not possible exits 1 with a hint."""
    for number in (1, 2):
        program.call("adapters", "import", str(training_run(program, f"v{number}", number)))
        assert program.call("adapters", "promote", f"v{number}").code == 0
    back = read(program, "rollback", "--reason", "worse")
    assert (back["release"]["name"], back["left"]["name"], back["serving"]) == ("v1", "v2", None)
    nowhere = program.call("adapters", "rollback")
    assert (nowhere.code, "--to-base" in nowhere.stderr) == (1, True)
    based = program.call("adapters", "rollback", "--to-base")
    assert (based.code, "No release is active" in based.stderr) == (0, True)
    assert "the base model answers" in doctor(program)
    assert program.call("adapters", "activate", "v2").code == 0
    assert statuses(program) == {"v1": "retired", "v2": "active"}
    assert program.call("adapters", "show", "gone").code == 1


def test_doctor_misses_the_folder(program: Program) -> None:
    """The folder of the active release was deleted: a warning says so and how to get out."""
    release = read(program, "import", str(training_run(program, "shop")))
    program.call("adapters", "promote", "shop")
    shutil.rmtree(release["path"])
    assert "is gone" in doctor(program)
    assert doctor(program).startswith("warning")


def test_doctor_tells_of_a_refusal() -> None:
    """What the running engine refuses is a warning with its reason and who answers instead."""
    serving = {"adapter": "r1", "name": "shop", "refused": "r2", "reason": "It holds NaN."}
    finding = judge({"serving": serving, "releases": []}, ok("adapter", "none"))
    assert (finding.status, "refuses r2: It holds NaN. shop answers instead" in finding.message) == (Status.WARNING, True)


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        (ModelSection(use_adapters=False), Status.OK, "use_adapters is off"),
        (ModelSection(adapter=""), Status.OK, "no release is active: the base model answers"),
        (ModelSection(adapter="/no/such/folder"), Status.WARNING, "there is no folder /no/such/folder"),
        (ModelSection(adapter="/usr"), Status.OK, "usr answers, in /usr"),
    ],
)
def test_doctor_before_the_first_start(tmp_path: Path, model: ModelSection, status: Status, words: str) -> None:
    """Without a database it is told what the settings come to."""
    findings: Sequence[Finding] = check_adapter(Settings(model=model, paths=PathsSection(data_dir=tmp_path / "data")))
    assert [(finding.status, words in finding.message) for finding in findings] == [(status, True)]


def test_the_base_model_answers_where_it_is_asked_for(program: Program) -> None:
    """`--no-adapter` of ask and chat leaves the active release out; without it the turn says which release answered."""
    release = read(program, "import", str(training_run(program, "shop")))
    program.call("adapters", "promote", "shop")

    def adapter_of(ended: Ended) -> str:
        assert ended.code == 0, ended.stderr
        return json.loads(ended.stdout)["adapter"]

    assert adapter_of(program.call("ask", "hello", "--json")) == release["id"]
    assert adapter_of(program.call("ask", "hello", "--json", "--no-adapter")) == ""
    assert program.spawn("chat", "--no-adapter", text="hello\n").stdout == "You said: hello\n"


def test_the_adapter_of_the_settings_answers(program: Program) -> None:
    """While no release is active, the folder that the settings name answers, stands in the turn, and replay finds it again."""
    folder = write_adapter(program.folder / "mine")
    settings = {"KEFU_MODEL__ADAPTER": str(folder)}
    told = json.loads(program.call("ask", "hello", "--json", variables=settings).stdout)
    assert (told["adapter"], told["answer"]) == ("mine", "[mine] You said: hello")
    again = program.call("replay", told["turn_id"], "--generate", "--json", variables=settings)
    assert json.loads(again.stdout)["generated"]["identical"] is True
    assert json.loads(program.call("ask", "hello", "--json", "--no-adapter", variables=settings).stdout)["adapter"] == ""
