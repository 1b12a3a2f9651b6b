"""Promotion, rollback and their refusals, with the strict loader against the model that is served."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bot.errors import CliError
from dialogue.engine.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from storage.database import Database
from storage.records import AdapterReleaseRecord
from tests.bot.adapter_scene import Installation, install, verdict_of
from tests.dialogue.engine.adapter_folders import write_adapter


@pytest.fixture
def installed(database: Database, tmp_path: Path) -> Installation:
    return install(database, tmp_path)


async def active(installed: Installation) -> str:
    """Return the name of what is active; "" = nothing."""
    found = await installed.database.read(lambda unit: unit.adapters.active(installed.files.sha256))
    return found.name if found else ""


async def test_a_candidate_with_a_passed_verdict_is_promoted(installed: Installation) -> None:
    """From the folder to the active release; each step stands in its history with who, from, to and why, and all is JSON."""
    release = await installed.candidate()
    assert (release["status"], release["passed"], release["has_verdict"]) == ("candidate", True, True)
    promoted = await installed.operations.promote({"id": "shop", "reason": "spring"})
    assert (promoted["release"]["id"], promoted["release"]["status"], promoted["serving"]) == (release["id"], "active", None)
    shown = await installed.operations.show({"id": release["id"]})
    assert json.loads(json.dumps(shown)) == shown
    assert [(event["actor"], event["from"], event["to"], event["reason"]) for event in shown["history"]] == [
        ("operator", "new", "candidate", "shop"),
        ("operator", "candidate", "candidate", "verdict: passed"),
        ("operator", "candidate", "active", "spring"),
    ]
    assert json.loads(shown["release"]["verdict"])["passed"] is True
    assert "verdict" not in (await installed.operations.list({}))["releases"][0]


async def test_the_registered_copy_is_what_counts(installed: Installation) -> None:
    """What happens to the folder of the training run afterwards changes nothing; the card goes along, and nothing else."""
    folder = installed.adapter("shop")
    (folder / "README.md").write_text("# card", encoding="utf-8")
    release = (await installed.operations.take_in({"path": str(folder), "name": "shop", "verdict": verdict_of(folder)}))["release"]
    shutil.rmtree(folder)
    kept = Path(release["path"])
    assert kept == installed.folder / "data" / "adapters" / release["id"]
    assert {path.name for path in kept.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, "README.md"}
    assert (await installed.operations.promote({"id": "shop"}))["release"]["status"] == "active"


@pytest.mark.parametrize(
    ("passed", "reasons", "words"),
    [
        (None, (), "has no verdict yet"),
        (False, ("support_loss is worse by 0.2 nats.",), "against it: support_loss is worse by 0.2 nats."),
        (False, (), "against it: it says no more."),
    ],
)
async def test_without_a_passed_verdict_nothing_is_promoted(
    installed: Installation, passed: bool | None, reasons: tuple[str, ...], words: str
) -> None:
    """A missing or failed verdict refuses with its reasons in words; the release before stays active."""
    await installed.candidate("before")
    await installed.operations.promote({"id": "before"})
    await installed.candidate("untrained", seed=2, passed=passed, reasons=reasons)
    with pytest.raises(CliError, match=words) as refused:
        await installed.operations.promote({"id": "untrained"})
    assert "--force" in refused.value.hint
    assert await active(installed) == "before"


async def test_force_needs_a_reason_and_is_written_down(installed: Installation) -> None:
    """`force` without a reason is a usage error; with one it activates even what was rejected, and says so for ever."""
    await installed.candidate("demo", passed=False)
    for reason in (None, " "):
        with pytest.raises(CliError, match="says why"):
            await installed.operations.promote({"id": "demo", "force": True, "reason": reason})
    forced = (await installed.operations.promote({"id": "demo", "force": True, "reason": "a fair"}))["release"]
    assert (forced["status"], forced["forced_reason"]) == ("active", "a fair")
    assert (await installed.operations.show({"id": "demo"}))["history"][-1]["reason"] == "forced: a fair"


async def test_force_does_not_pass_off_a_good_verdict(installed: Installation) -> None:
    """A release that has passed was not forced, even if somebody said so."""
    await installed.candidate()
    assert (await installed.operations.promote({"id": "shop", "force": True, "reason": "sure"}))["release"]["forced_reason"] == ""


def damage_weights(folder: Path) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])


def swap_weights(folder: Path) -> None:
    """Put another adapter in its place that fits as well."""
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    data = bytearray((other / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 0x01
    (folder / WEIGHTS_FILE).write_bytes(data)


def add_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("import os", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_weights, "not a whole safetensors file"),
        (swap_weights, "changed after it was registered"),
        (shutil.rmtree, "is not there"),
        (add_code, "holds 'modeling.py'"),
    ],
)
async def test_a_damaged_folder_is_not_promoted(installed: Installation, damage: Callable[[Path], None], words: str) -> None:
    """Whatever the verdict and even with force, what the strict loader refuses is not activated."""
    release = await installed.candidate()
    damage(Path(release["path"]))
    for force in (False, True):
        with pytest.raises(CliError, match=words):
            await installed.operations.promote({"id": "shop", "force": force, "reason": "please"})
    assert await active(installed) == ""


async def test_what_cannot_be_served_is_not_even_registered(installed: Installation) -> None:
    """An adapter of another base, a hostile folder, and a verdict about another adapter leave neither a row nor a file."""
    other_base = write_adapter(installed.folder / "made" / "other", pin="6" * 64)
    hostile = installed.adapter("hostile", config={"auto_mapping": {"parent_library": "os"}})
    good, better = installed.adapter("good"), installed.adapter("better", seed=9)
    for path, verdict, words in (
        (other_base, None, "another base model"),
        (hostile, None, "auto_mapping"),
        (good, verdict_of(better), "about another adapter"),
        (good, "{}", "no verdict"),
        (good, '{"passed": "yes", "provenance": {"adapter_sha256": ""}}', "no verdict"),
        (good, "{" + " " * 600_000, "no verdict"),
    ):
        with pytest.raises(CliError, match=words):
            await installed.operations.take_in({"path": str(path), "name": "x", "verdict": verdict})
    assert (await installed.operations.list({}))["releases"] == []
    assert not list((installed.folder / "data").glob("adapters/*"))


async def test_an_adapter_of_another_form_is_served(installed: Installation) -> None:
    """An adapter that was trained on another form of the served model is found for the served one."""
    folder = installed.adapter("shop", pin="6" * 64, metadata={"base_model_forms": installed.files.sha256})
    await installed.operations.take_in({"path": str(folder), "name": "shop", "verdict": verdict_of(folder), "skills": "support"})
    release = (await installed.operations.promote({"id": "shop"}))["release"]
    assert (release["base_model_sha256"], release["base_forms"], release["skills"]) == ("6" * 64, [installed.files.sha256], ["support"])
    assert await active(installed) == "shop"


async def test_rollback_and_activate(installed: Installation) -> None:
    """Rollback goes to what was active before, `to_base` to the base model, activate brings one back that had passed."""
    for number in (1, 2, 3):
        await installed.candidate(f"v{number}", seed=number)
        await installed.operations.promote({"id": f"v{number}"})
    back = await installed.operations.roll_back({"reason": "refuses too much"})
    assert (back["left"]["name"], back["release"]["name"], await active(installed)) == ("v3", "v2", "v2")
    await installed.operations.activate({"id": "v3"})
    assert await active(installed) == "v3"
    based = await installed.operations.roll_back({"to_base": True})
    assert (based["release"], await active(installed)) == (None, "")
    with pytest.raises(CliError, match="nothing to roll back"):
        await installed.operations.roll_back({})
    await installed.operations.activate({"id": "v1", "reason": "the first was best"})
    with pytest.raises(CliError, match="No release was active before v1") as nothing:
        await installed.operations.roll_back({})
    assert "--to-base" in nothing.value.hint
    statuses = {release["name"]: release["status"] for release in (await installed.operations.list({}))["releases"]}
    assert statuses == {"v1": "active", "v2": "retired", "v3": "retired"}


async def test_a_rollback_to_a_damaged_release_is_refused(installed: Installation) -> None:
    """What would not load is not gone back to; the way to the base model is named, and needs no folder."""
    for number in (1, 2):
        await installed.candidate(f"v{number}", seed=number)
        await installed.operations.promote({"id": f"v{number}"})
    first = await installed.operations.show({"id": "v1"})
    damage_weights(Path(first["release"]["path"]))
    with pytest.raises(CliError, match="v1 cannot be served") as refused:
        await installed.operations.roll_back({})
    assert "--to-base" in refused.value.hint
    assert await active(installed) == "v2"
    await installed.operations.roll_back({"to_base": True})
    assert await active(installed) == ""


async def test_each_way_is_for_its_own_status(installed: Installation) -> None:
    """A candidate is not activated, an active or retired release not promoted; names that fit none or several are told."""
    await installed.candidate("v1")
    await installed.candidate("v1", seed=1)
    with pytest.raises(CliError, match="2 releases are called v1"):
        await installed.operations.promote({"id": "v1"})
    with pytest.raises(CliError, match="no release v9"):
        await installed.operations.show({"id": "v9"})
    await installed.candidate("v2", seed=2)
    with pytest.raises(CliError, match="was never active"):
        await installed.operations.activate({"id": "v2"})
    await installed.operations.promote({"id": "v2"})
    with pytest.raises(CliError, match="is active already"):
        await installed.operations.promote({"id": "v2"})
    before = await installed.operations.show({"id": "v2"})
    await installed.operations.activate({"id": "v2"})
    assert await installed.operations.show({"id": "v2"}) == before
    await installed.operations.roll_back({"to_base": True})
    with pytest.raises(CliError, match="was active before"):
        await installed.operations.promote({"id": "v2"})
    with pytest.raises(CliError, match="skills must be names"):
        await installed.operations.take_in({"path": "/x", "name": "x", "skills": "../chat"})


async def test_without_the_model_nothing_is_promoted_but_all_is_rolled_back(installed: Installation) -> None:
    """Where the model was not fetched there is nothing to check against; the way back to the base model is open all the same."""
    await installed.candidate("v1")
    await installed.operations.promote({"id": "v1"})
    await installed.candidate("v2", seed=2)
    bare = install(installed.database, installed.folder)
    operations = type(bare.operations)(bare.database, replace(bare.folders, files=lambda: None), None)
    with pytest.raises(CliError, match="model is not here yet"):
        await operations.promote({"id": "v2"})
    await operations.roll_back({"to_base": True})
    assert await active(installed) == ""


async def test_what_another_program_loads_is_looked_at_all_the_same(installed: Installation) -> None:
    """For servers elsewhere an adapter is checked for harm and for having changed, without a model on this machine."""
    folders = replace(installed.folders, files=lambda: None, needs_files=False)
    operations = type(installed.operations)(installed.database, folders, None)
    folder = write_adapter(installed.folder / "made" / "far", pin="6" * 64)
    release = (await operations.take_in({"path": str(folder), "name": "far", "verdict": verdict_of(folder)}))["release"]
    assert (await operations.promote({"id": "far"}))["release"]["base_model_sha256"] == "6" * 64
    damage_weights(Path(release["path"]))
    await operations.roll_back({"to_base": True})
    with pytest.raises(CliError, match="not a whole safetensors file"):
        await operations.activate({"id": "far"})


async def test_a_change_of_somebody_else_is_not_overwritten(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback that was overtaken by another one says so and changes nothing."""
    for number in (1, 2, 3):
        await installed.candidate(f"v{number}", seed=number)
        await installed.operations.promote({"id": f"v{number}"})
    operations = installed.operations

    async def check_slowly(_release: AdapterReleaseRecord, hint: str) -> None:
        await installed.operations.roll_back({})

    monkeypatch.setattr(operations, "_check", check_slowly)
    with pytest.raises(CliError, match="Somebody else changed"):
        await operations.roll_back({})
    assert await active(installed) == "v2"
