"""A candidate with its verdict becomes a release: its files are copied, its row is stored.

The copy lies in DATA/adapters/ID and is checked once more, so that what serving loads later is what was judged. The row is
written last: a crash before it leaves a folder that nobody names.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from dialogue.config import ProgramConfig
from dialogue.engine.adapter_files import copy_adapter
from dialogue.engine.adapters import adapter_digest
from finetune.dataset import read_split
from finetune.errors import FinetuneError
from finetune.evaluation.verdict import Verdict, encode_verdict
from finetune.training.run_folder import RunManifest
from storage.config import StorageConfig
from storage.database import Database, open_database
from storage.errors import DatabaseBusy
from storage.ids import new_id
from storage.records import ADAPTED_SKILLS, AdapterReleaseRecord, ReleaseStatus
from storage.unit_of_work import UnitOfWork

ADAPTERS: Final = "adapters"
_ACTOR: Final = "finetune evaluate"


async def active_adapter(storage: StorageConfig, base_model_sha256: str) -> Path | None:
    """Return the folder of the release that answers customers now, None when the base model does. Raises StorageError."""
    async with _opened(storage, "Name the adapter to beat with --incumbent, or compare with --against-base.") as database:
        active = await database.read(lambda unit: unit.adapters.active(base_model_sha256))
    return None if active is None else Path(active.path)


async def register(verdict: Verdict, run: RunManifest, adapter: Path, program: ProgramConfig) -> str:
    """Store the candidate as a release with its verdict and return the release's id. Raises FinetuneError and StorageError."""
    release_id = new_id()
    kept = program.data_dir.absolute() / ADAPTERS / release_id
    async with _opened(program.storage, f"Register it with `kefu adapters import {adapter.parent}`.") as database:
        try:
            _keep(adapter, kept, verdict.provenance.adapter_sha256)
            await database.write(lambda unit: _store(unit, _release(release_id, kept, verdict, run), verdict))
        except BaseException:
            shutil.rmtree(kept, ignore_errors=True)
            raise
    return release_id


def _release(release_id: str, folder: Path, verdict: Verdict, run: RunManifest) -> AdapterReleaseRecord:
    return AdapterReleaseRecord(
        id=release_id,
        name=run.recipe.name,
        base_model_sha256=run.base.sha256,
        path=str(folder),
        sha256=verdict.provenance.adapter_sha256,
        status=ReleaseStatus.CANDIDATE,
        verdict="",
        created_at=0,
        base_forms=tuple(run.base.forms.values()),
        skills=trained_skills(run),
    )


async def _store(unit: UnitOfWork, release: AdapterReleaseRecord, verdict: Verdict) -> None:
    await unit.adapters.add(release, _ACTOR)
    await unit.adapters.set_verdict(release.id, encode_verdict(verdict), passed=verdict.passed, actor=_ACTOR)


@asynccontextmanager
async def _opened(storage: StorageConfig, hint: str) -> AsyncIterator[Database]:
    """Give the database. Where a running Kefu has it, DatabaseBusy says what to do instead."""
    try:
        database = await open_database(storage, owner="kefu finetune evaluate")
    except DatabaseBusy as busy:
        raise DatabaseBusy(f"{busy} {hint}") from None
    try:
        yield database
    finally:
        await database.close()


def trained_skills(run: RunManifest) -> tuple[str, ...]:
    """Return the skills whose prompts the adapter was trained with: it answers no others."""
    found = {sample.skill for sample in read_split(Path(run.data.path), "train")}
    return tuple(sorted(found)) or ADAPTED_SKILLS


def _keep(source: Path, target: Path, sha256: str) -> None:
    """Copy an adapter to a new folder. Raises FinetuneError when it changed since it was judged."""
    copy_adapter(source, target)
    if adapter_digest(target) != sha256:
        raise FinetuneError(f"The adapter {source} was changed while it was evaluated.", hint="Evaluate it again.")
