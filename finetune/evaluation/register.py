"""A candidate with its verdict becomes a release: its files are copied, its row is stored.

The copy lies in DATA/adapters/ID and is checked once more, so that what serving loads later is what was judged. The row is
written last: a crash before it leaves a folder that nobody names.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from dialogue.config import ProgramConfig
from dialogue.engine.adapters import CONFIG_FILE, WEIGHTS_FILE, inspect_adapter
from finetune.dataset import read_split
from finetune.errors import FinetuneError
from finetune.evaluation.verdict import Verdict, encode_verdict
from finetune.training.run_folder import RunManifest
from storage.config import StorageConfig
from storage.database import open_database
from storage.ids import new_id
from storage.records import ADAPTED_SKILLS, AdapterReleaseRecord, ReleaseStatus
from storage.unit_of_work import UnitOfWork

ADAPTERS: Final = "adapters"
_ACTOR: Final = "finetune evaluate"


async def active_adapter(storage: StorageConfig, base_model_sha256: str) -> Path | None:
    """Return the folder of the release that answers customers now, None when the base model does. Raises StorageError."""
    database = await open_database(storage, owner="kefu finetune evaluate")
    try:
        active = await database.read(lambda unit: unit.adapters.active(base_model_sha256))
    finally:
        await database.close()
    return None if active is None else Path(active.path)


async def register(verdict: Verdict, run: RunManifest, adapter: Path, program: ProgramConfig) -> str:
    """Store the candidate as a release with its verdict and return the release's id. Raises FinetuneError and StorageError."""
    release = AdapterReleaseRecord(
        id=(release_id := new_id()),
        name=run.recipe.name,
        base_model_sha256=run.base.sha256,
        path=str(copy_adapter(adapter, program.data_dir.absolute() / ADAPTERS / release_id, verdict.provenance.adapter_sha256)),
        sha256=verdict.provenance.adapter_sha256,
        status=ReleaseStatus.CANDIDATE,
        verdict="",
        created_at=0,
        base_forms=tuple(run.base.forms.values()),
        skills=trained_skills(run),
    )

    async def store(unit: UnitOfWork) -> None:
        await unit.adapters.add(release, _ACTOR)
        await unit.adapters.set_verdict(release_id, encode_verdict(verdict), passed=verdict.passed, actor=_ACTOR)

    database = await open_database(program.storage, owner="kefu finetune evaluate")
    try:
        await database.write(store)
    finally:
        await database.close()
    return release_id


def trained_skills(run: RunManifest) -> tuple[str, ...]:
    """Return the skills whose prompts the adapter was trained with: it answers no others."""
    found = {sample.skill for sample in read_split(Path(run.data.path), "train")}
    return tuple(sorted(found)) or ADAPTED_SKILLS


def copy_adapter(source: Path, target: Path, sha256: str) -> Path:
    """Copy the two files of an adapter, and its card, to a new folder and return it. Raises FinetuneError when they changed meanwhile."""
    target.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE, "README.md"):
        if (source / name).is_file():
            _copy_synced(source / name, target / name)
    if inspect_adapter(target).sha256 != sha256:
        shutil.rmtree(target)
        raise FinetuneError(f"The adapter {source} was changed while it was evaluated.", hint="Evaluate it again.")
    return target


def _copy_synced(source: Path, target: Path) -> None:
    with source.open("rb") as file, target.open("xb") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
