"""Adapter releases: at most one is active for each base model, and every change of status is audited."""

from typing import Any, Final

from sqlalchemy import Row, and_, func, insert, literal, or_, select, update

from storage.models import adapter_releases as releases
from storage.records import AdapterReleaseRecord, AuditRecord, ReleaseStatus
from storage.repositories.audit import AuditRepository
from storage.repositories.base import Repository

STATUS_ACTION: Final = "adapter.status"
_MISSING: Final = "no such adapter release"
_FORMS: Final = literal(",") + releases.c.base_forms + literal(",")


def release_record(row: Row[Any]) -> AdapterReleaseRecord:
    """Return the frozen record of a row of `adapter_releases`."""
    return AdapterReleaseRecord(
        row.id,
        row.name,
        row.base_model_sha256,
        row.path,
        row.sha256,
        ReleaseStatus(row.status),
        row.verdict,
        row.created_at,
        passed=row.passed,
        forced_reason=row.forced_reason,
        base_forms=_split(row.base_forms),
        skills=_split(row.skills),
        activation=row.activation,
    )


class AdapterRepository(Repository):
    """Rows of `adapter_releases`. What is active without a passed verdict or a reason to force it is refused with StorageError."""

    async def add(self, release: AdapterReleaseRecord, actor: str = "operator") -> AdapterReleaseRecord:
        """Store a release. `created_at` and `activation` are set here; a release that comes in as active retires the one before it."""
        is_active = release.status is ReleaseStatus.ACTIVE
        if is_active:
            await self._retire_active(release.base_model_sha256, actor, f"{release.id} was added as active")
        statement = insert(releases).values(
            id=release.id,
            name=release.name,
            base_model_sha256=release.base_model_sha256,
            path=release.path,
            sha256=release.sha256,
            status=release.status,
            verdict=release.verdict,
            passed=release.passed,
            forced_reason=release.forced_reason,
            base_forms=",".join(release.base_forms),
            skills=",".join(release.skills),
            activation=await self._next_activation() if is_active else 0,
            created_at=await self._now(),
        )
        added = release_record((await self._run(statement.returning(releases))).one())
        await self._audit(actor, release.id, "new", release.status, release.name)
        return added

    async def get(self, release_id: str) -> AdapterReleaseRecord:
        """Return the release. Raises NotFound."""
        return release_record(await self._one(select(releases).where(releases.c.id == release_id), _MISSING))

    async def find(self, named: str) -> tuple[AdapterReleaseRecord, ...]:
        """Return the release with this id; else those with this name, newest first."""
        rows = await self._all(select(releases).where(or_(releases.c.id == named, releases.c.name == named)).order_by(releases.c.id.desc()))
        found = tuple(release_record(row) for row in rows)
        return tuple(release for release in found if release.id == named) or found

    async def activate(self, release_id: str, actor: str, reason: str = "", *, forced_reason: str = "") -> AdapterReleaseRecord:
        """Make this the active release of its base as the newest activation; the one before it is retired. Raises NotFound.

        Without a passed verdict it takes a `forced_reason`, which is kept with the release.
        """
        release = await self.get(release_id)
        values: dict[str, Any] = {"activation": await self._next_activation()}
        if forced_reason:
            values["forced_reason"] = forced_reason
        await self._retire_active(release.base_model_sha256, actor, f"{release_id} was activated")
        why = f"forced: {forced_reason}" if forced_reason else reason
        return await self._change(release, ReleaseStatus.ACTIVE, actor, why, values)

    async def before(self, release: AdapterReleaseRecord) -> AdapterReleaseRecord | None:
        """Return the release of the same base that was active before `release`: the one that a rollback goes back to."""
        earlier = and_(
            releases.c.base_model_sha256 == release.base_model_sha256,
            releases.c.status == ReleaseStatus.RETIRED,
            releases.c.activation.between(1, release.activation - 1),
        )
        found = await self._first(select(releases).where(earlier).order_by(releases.c.activation.desc(), releases.c.id.desc()).limit(1))
        return None if found is None else release_record(found)

    async def roll_back(self, release_id: str, to: str | None, actor: str, reason: str = "") -> AdapterReleaseRecord | None:
        """Retire the release and activate the earlier one `to` again, None = the base model; return that one. Raises NotFound.

        What is left also leaves the order of activations, so that no later rollback leads to it; nothing is before the base model.
        """
        left, why = await self.get(release_id), f"rolled back: {reason}" if reason else "rolled back"
        await self._change(left, ReleaseStatus.RETIRED, actor, why, {"activation": 0})
        if to is None:
            await self._run(update(releases).where(releases.c.base_model_sha256 == left.base_model_sha256).values(activation=0))
        return None if to is None else await self._change(await self.get(to), ReleaseStatus.ACTIVE, actor, f"rolled back from {release_id}")

    async def set_verdict(self, release_id: str, verdict: str, *, passed: bool, actor: str = "operator") -> AdapterReleaseRecord:
        """Store the JSON of the evaluation gate. A candidate that did not pass is rejected, a rejected one that did is a candidate again.

        Raises NotFound.
        """
        release = await self.get(release_id)
        status = release.status
        if status in {ReleaseStatus.CANDIDATE, ReleaseStatus.REJECTED}:
            status = ReleaseStatus.CANDIDATE if passed else ReleaseStatus.REJECTED
        reason = f"verdict: {'passed' if passed else 'not passed'}"
        return await self._change(release, status, actor, reason, {"verdict": verdict, "passed": passed})

    async def active(self, base_model_sha256: str | None = None) -> AdapterReleaseRecord | None:
        """Return the active release that fits this base model, or any base; the newest when several do.

        One that was trained on exactly this form of the base comes before one that also fits it.
        """
        statement = select(releases).where(releases.c.status == ReleaseStatus.ACTIVE)
        order = [releases.c.activation.desc(), releases.c.id.desc()]
        if base_model_sha256 is not None:
            exact = releases.c.base_model_sha256 == base_model_sha256
            statement = statement.where(or_(exact, _FORMS.contains(f",{base_model_sha256},", autoescape=True)))
            order = [exact.desc(), *order]
        found = await self._first(statement.order_by(*order).limit(1))
        return None if found is None else release_record(found)

    async def list(self) -> tuple[AdapterReleaseRecord, ...]:
        """Return all releases, newest first."""
        rows = await self._all(select(releases).order_by(releases.c.id.desc()))
        return tuple(release_record(row) for row in rows)

    async def history(self, release_id: str) -> tuple[AuditRecord, ...]:
        """Return what became of the release, oldest first."""
        return await AuditRepository(self._context).of(release_id, STATUS_ACTION)

    async def _retire_active(self, base_model_sha256: str, actor: str, reason: str) -> None:
        active = and_(releases.c.base_model_sha256 == base_model_sha256, releases.c.status == ReleaseStatus.ACTIVE)
        for row in await self._all(select(releases).where(active).with_for_update()):
            await self._change(release_record(row), ReleaseStatus.RETIRED, actor, reason)

    async def _change(
        self, release: AdapterReleaseRecord, status: ReleaseStatus, actor: str, reason: str, values: dict[str, Any] | None = None
    ) -> AdapterReleaseRecord:
        statement = update(releases).where(releases.c.id == release.id).values(status=status, **(values or {}))
        after = release_record(await self._one(statement.returning(releases), _MISSING))
        await self._audit(actor, release.id, release.status, status, reason)
        return after

    async def _audit(self, actor: str, release_id: str, before: str, after: str, reason: str) -> None:
        detail = f"{before} -> {after}" + (f": {reason}" if reason else "")
        await AuditRepository(self._context).append(actor, STATUS_ACTION, release_id, detail)

    async def _next_activation(self) -> int:
        return 1 + (await self._scalar(select(func.coalesce(func.max(releases.c.activation), 0))) or 0)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
