"""The whole way with a tiny model: torch, llama.cpp and the database, from a run folder to a release."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file, save_file

from dialogue.engine.model_sources import ModelSources
from finetune.errors import DatasetInvalid, FinetuneError
from finetune.evaluation.command import Request, evaluate_run, serving_adapter
from finetune.evaluation.register import register
from finetune.evaluation.run_agreement import run_agreement
from finetune.evaluation.subject import Terms
from finetune.evaluation.verdict import Verdict
from finetune.training.run_folder import read_run
from storage.database import open_database
from storage.errors import DatabaseBusy
from storage.records import AdapterReleaseRecord, ReleaseStatus
from tests.finetune.evaluation.tiny_run import request, tiny_program, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a dataset, and runs whose adapters are random or without effect."""
    folder = tmp_path_factory.mktemp("tiny")
    write_run(folder, "untrained", 0.0)
    write_run(folder, "random", 0.2)
    return folder


def run(place: Path, asked: Request) -> SimpleNamespace:
    """Return the outcome of an evaluation, and what was told on the way."""
    told: list[tuple[str, int, int]] = []
    outcome = evaluate_run(asked, tiny_program(place), ModelSources(), lambda what, done, total: told.append((what, done, total)))
    return SimpleNamespace(outcome=outcome, told=told)


async def releases(place: Path) -> tuple[AdapterReleaseRecord, ...]:
    database = await open_database(tiny_program(place).storage)
    try:
        return await database.read(lambda unit: unit.adapters.list())
    finally:
        await database.close()


def test_an_untrained_adapter_does_not_pass(place: Path) -> None:
    """An adapter whose B is zero says and loses exactly what the base does: no gain, no pass."""
    outcome = run(place, request(place / "untrained")).outcome
    assert not outcome.verdict.passed
    loss = next(each for each in outcome.verdict.comparisons if each.suite == "support_loss")
    assert loss.gain == pytest.approx(0, abs=1e-9)
    assert "does not exclude zero" in outcome.verdict.reasons[0]


async def test_a_random_adapter_does_not_pass_and_is_registered_as_rejected(place: Path) -> None:
    """Its folder has verdict, report and answers; its files lie in a release of their own, which the database holds with the verdict."""
    found = await asyncio.to_thread(run, place, request(place / "random", register=True, incumbent=place / "untrained" / "adapter"))
    outcome = found.outcome
    assert not outcome.verdict.passed
    assert outcome.verdict.reference == "incumbent"
    assert {name for name, _, _ in found.told} == {"Support replies, loss", "Answers"}
    assert {path.name for path in outcome.folder.iterdir()} == {"verdict.json", "report.html", "answers.jsonl"}
    (release,) = await releases(place)
    assert release.id == outcome.release_id
    assert release.status is ReleaseStatus.REJECTED
    assert release.skills == ("support",)
    assert not release.passed
    assert json.loads(release.verdict) == json.loads((outcome.folder / "verdict.json").read_text(encoding="utf-8"))
    assert release.sha256 == outcome.verdict.provenance.adapter_sha256
    copy = Path(release.path)
    assert copy == tiny_program(place).data_dir / "adapters" / release.id
    original = place / "random" / "adapter" / "adapter_model.safetensors"
    assert (copy / "adapter_model.safetensors").read_bytes() == original.read_bytes()


def test_what_answers_without_a_release_is_the_one_to_beat(place: Path, tmp_path: Path) -> None:
    """While no release is active, the adapter of the settings is the incumbent, but only for the model that it belongs to."""
    program = tiny_program(place)
    storage, shipped = replace(program.storage, url=f"sqlite:///{tmp_path / 'kefu.db'}"), tmp_path / "shipped"
    manifest = read_run(place / "untrained")
    serving = replace(program, storage=storage, adapter=shipped, engine=replace(program.engine, model=manifest.base.reference))
    assert serving_adapter(serving, manifest) == shipped
    assert serving_adapter(replace(serving, engine=program.engine), manifest) is None
    assert serving_adapter(replace(serving, adapter=None), manifest) is None
    skill = replace(serving, engine=program.engine, skill_adapters={manifest.base.reference: tmp_path / "skill"})
    assert serving_adapter(skill, manifest) == tmp_path / "skill"


def test_beside_a_running_kefu_it_is_said_what_to_do(place: Path) -> None:
    """While another process has the SQLite file, the error names the options that need no database; with them it works."""
    storage = tiny_program(place).storage

    async def beside() -> Verdict:
        database = await open_database(storage, owner="kefu run")
        try:
            with pytest.raises(DatabaseBusy, match=r"kefu run.*--incumbent.*--against-base"):
                await asyncio.to_thread(run, place, request(place / "untrained"))
            found = await asyncio.to_thread(run, place, request(place / "untrained", against_base=True, suites=("support_loss",)))
            with pytest.raises(DatabaseBusy, match=r"kefu adapters import .*untrained"):
                await register(found.outcome.verdict, read_run(place / "untrained"), place / "untrained" / "adapter", tiny_program(place))
            assert not (tiny_program(place).data_dir / "adapters").exists() or len(list((place / "data" / "adapters").iterdir())) <= 1
            return found.outcome.verdict
        finally:
            await database.close()

    assert asyncio.run(beside()).reference == "base"


def damaged(place: Path, name: str, how: str) -> Path:
    """Return a copy of the random run whose adapter was damaged."""
    target = place / name
    if not target.exists():
        shutil.copytree(place / "random", target)
    weights = target / "adapter" / "adapter_model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif how == "gone":
        weights.unlink()
    elif how == "other base":
        save_file(load_file(weights), weights, metadata={"base_model_sha256": "0" * 64})
    else:
        (target / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA", "auto_mapping": {"x": "os"}}', encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut", "not a whole safetensors file"),
        ("gone", "no readable adapter_model.safetensors"),
        ("other base", "trained on another base model"),
        ("other code", "auto_mapping is refused|is refused"),
    ],
)
def test_a_damaged_adapter_is_refused_with_a_sentence(place: Path, how: str, words: str) -> None:
    """Before anything is loaded, an adapter that serving would not take is refused, and the sentence says why."""
    with pytest.raises(FinetuneError, match=words) as caught:
        run(place, request(damaged(place, f"damaged-{how}".replace(" ", "-"), how)))
    assert "candidate" in str(caught.value)
    assert caught.value.hint


def test_a_missing_dataset_or_run_is_named(place: Path) -> None:
    """A folder that is no dataset and one that is no finished run are named, with what would make one."""
    with pytest.raises(DatasetInvalid, match="nowhere is no dataset"):
        run(place, request(place / "random", data=place / "nowhere"))
    with pytest.raises(FinetuneError, match="is no finished training run"):
        run(place, request(place / "dataset"))


def test_serving_says_what_training_says(place: Path) -> None:
    """In float32 both engines give the answers of the training process, with an adapter on; a tiny random model hides nothing."""
    program = tiny_program(place)
    found = run_agreement(Terms(place / "random", None, 6, 12, program.engine, ModelSources()), lambda *_: None)
    assert [agreement.engine.partition(",")[0] for agreement in found] == ["llamacpp", "local"]
    for agreement in found:
        assert agreement.holds
        assert agreement.same == agreement.prompts == 6 or not agreement.exact
        assert agreement.tokens >= 12
