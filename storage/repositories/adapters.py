"""Adapter releases: at most one is active for each base model, and every change of status is audited."""

from typing import Any

from sqlalchemy import Row, insert, select, update

from storage.models import adapter_releases
from storage.records import AdapterReleaseRecord, ReleaseStatus
from storage.repositories.audit import AuditRepository
from storage.repositories.base import Repository


def release_record(row: Row[Any]) -> AdapterReleaseRecord:
    """Return the frozen record of a row of `adapter_releases`."""
    return AdapterReleaseRecord(
        row.id, row.name, row.base_model_sha256, row.path, row.sha256, ReleaseStatus(row.status), row.verdict, row.created_at
    )


class AdapterRepository(Repository):
    """Rows of `adapter_releases`."""

    async def add(self, release: AdapterReleaseRecord) -> AdapterReleaseRecord:
        """Store a release. `created_at` is set here; a release that comes in as active retires the one before it."""
        if release.status is ReleaseStatus.ACTIVE:
            await self._retire_active(release.base_model_sha256)
        statement = insert(adapter_releases).values(
            id=release.id,
            name=release.name,
            base_model_sha256=release.base_model_sha256,
            path=release.path,
            sha256=release.sha256,
            status=release.status,
            verdict=release.verdict,
            created_at=await self._now(),
        )
        return release_record((await self._run(statement.returning(adapter_releases))).one())

    async def get(self, release_id: str) -> AdapterReleaseRecord:
        """Return the release. Raises NotFound."""
        return release_record(
            await self._one(select(adapter_releases).where(adapter_releases.c.id == release_id), "no such adapter release")
        )

    async def set_status(self, release_id: str, status: ReleaseStatus, actor: str) -> AdapterReleaseRecord:
        """Change the status. Activating retires the active release of the same base in the same transaction. Raises NotFound."""
        before = await self.get(release_id)
        if status is ReleaseStatus.ACTIVE:
            await self._retire_active(before.base_model_sha256)
        statement = update(adapter_releases).where(adapter_releases.c.id == release_id).values(status=status)
        after = release_record(await self._one(statement.returning(adapter_releases), "no such adapter release"))
        await AuditRepository(self._context).append(actor, "adapter.status", release_id, f"{before.status} -> {status}")
        return after

    async def set_verdict(self, release_id: str, verdict: str) -> None:
        """Store the JSON of the evaluation gate. Raises NotFound."""
        await self._one(
            update(adapter_releases).where(adapter_releases.c.id == release_id).values(verdict=verdict).returning(adapter_releases.c.id),
            "no such adapter release",
        )

    async def active(self, base_model_sha256: str | None = None) -> AdapterReleaseRecord | None:
        """Return the active release of this base model, or of any; the newest when several bases have one."""
        statement = select(adapter_releases).where(adapter_releases.c.status == ReleaseStatus.ACTIVE)
        if base_model_sha256 is not None:
            statement = statement.where(adapter_releases.c.base_model_sha256 == base_model_sha256)
        found = await self._first(statement.order_by(adapter_releases.c.id.desc()).limit(1))
        return None if found is None else release_record(found)

    async def list(self) -> tuple[AdapterReleaseRecord, ...]:
        """Return all releases, newest first."""
        rows = await self._all(select(adapter_releases).order_by(adapter_releases.c.id.desc()))
        return tuple(release_record(row) for row in rows)

    async def _retire_active(self, base_model_sha256: str) -> None:
        await self._run(
            update(adapter_releases)
            .where(adapter_releases.c.base_model_sha256 == base_model_sha256, adapter_releases.c.status == ReleaseStatus.ACTIVE)
            .values(status=ReleaseStatus.RETIRED)
        )
