"""Releases of adapters on both databases: what may become active, in which order, and what is written down about it."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.errors import NotFound, StorageError
from storage.ids import new_id
from storage.records import ADAPTED_SKILLS, AdapterReleaseRecord, ReleaseStatus

BASE, FORM = "b" * 64, "f" * 64


def candidate(name: str = "shop", *, base: str = BASE, passed: bool = True) -> AdapterReleaseRecord:
    """Return a release that waits for its promotion."""
    return AdapterReleaseRecord(new_id(), name, base, "/a", "0" * 64, ReleaseStatus.CANDIDATE, "", 0, passed=passed)


async def add(database: Database, *releases: AdapterReleaseRecord) -> None:
    """Store releases."""
    for release in releases:
        await database.write(lambda unit, release=release: unit.adapters.add(release))


async def activate(database: Database, release: AdapterReleaseRecord, **options: str) -> AdapterReleaseRecord:
    """Make a release the active one."""
    return await database.write(lambda unit: unit.adapters.activate(release.id, "owner", **options))


async def statuses(database: Database) -> dict[str, ReleaseStatus]:
    """Return the status of every release by its id."""
    return {release.id: release.status for release in await database.read(lambda unit: unit.adapters.list())}


async def history(database: Database, release: AdapterReleaseRecord) -> list[str]:
    """Return what the audit log says about a release, oldest first."""
    lines = await database.read(lambda unit: unit.adapters.history(release.id))
    assert all(line.actor and line.at for line in lines)
    return [line.detail for line in lines]


async def test_a_release_comes_back_as_it_was_stored(database: Database) -> None:
    """Every field of a release survives, and those that nobody sets have their defaults."""
    whole = replace(candidate(), base_forms=(FORM, "e" * 64), skills=("chat",), verdict='{"passed": true}')
    plain = candidate("plain", passed=False)
    await add(database, whole, plain)
    stored = await database.read(lambda unit: unit.adapters.get(whole.id))
    assert stored == replace(whole, created_at=stored.created_at)
    assert (await database.read(lambda unit: unit.adapters.get(plain.id))).skills == ADAPTED_SKILLS
    with pytest.raises(NotFound):
        await database.read(lambda unit: unit.adapters.get("gone"))


async def test_a_base_model_has_one_active_release(database: Database) -> None:
    """Activating retires the one before, both are audited, and the database itself refuses a second active one."""
    first, second, elsewhere = candidate(), candidate(), candidate(base="y" * 64)
    await add(database, first, second, elsewhere)
    for release in (first, second, elsewhere):
        await activate(database, release)
    assert await statuses(database) == {
        first.id: ReleaseStatus.RETIRED,
        second.id: ReleaseStatus.ACTIVE,
        elsewhere.id: ReleaseStatus.ACTIVE,
    }
    active = await database.read(lambda unit: unit.adapters.active(BASE))
    assert active is not None
    assert active.id == second.id
    assert await database.read(lambda unit: unit.adapters.active("z" * 64)) is None
    assert await history(database, first) == [
        "new -> candidate: shop",
        "candidate -> active",
        f"active -> retired: {second.id} was activated",
    ]
    force = text("UPDATE adapter_releases SET status = 'active'")
    with pytest.raises(StorageError):
        await database.write(lambda unit: unit._context.connection.execute(force))


async def test_nothing_becomes_active_without_a_passed_verdict(database: Database) -> None:
    """Neither a new row nor a change, neither this program nor plain SQL gets past the constraint; nothing of the try stays."""
    kept, refused = candidate(), candidate(passed=False)
    await add(database, kept, refused)
    await activate(database, kept)
    with pytest.raises(StorageError, match="ck_adapter_releases_verdict"):
        await activate(database, refused)
    with pytest.raises(StorageError, match="ck_adapter_releases_verdict"):
        await add(database, replace(candidate(passed=False), status=ReleaseStatus.ACTIVE))
    by_hand = text("UPDATE adapter_releases SET status = 'active', base_model_sha256 = 'other' WHERE NOT passed")
    with pytest.raises(StorageError, match="ck_adapter_releases_verdict"):
        await database.write(lambda unit: unit._context.connection.execute(by_hand))
    with pytest.raises(StorageError, match="ck_adapter_releases_verdict"):
        await database.write(lambda unit: unit.adapters.set_verdict(kept.id, "{}", passed=False))
    assert await statuses(database) == {kept.id: ReleaseStatus.ACTIVE, refused.id: ReleaseStatus.CANDIDATE}
    assert await history(database, refused) == ["new -> candidate: shop"]


async def test_force_is_kept_with_its_reason(database: Database) -> None:
    """Who activates without a verdict leaves the reason in the row and in the audit log."""
    release = candidate(passed=False)
    await add(database, release)
    forced = await activate(database, release, forced_reason="a demo")
    assert (forced.status, forced.passed, forced.forced_reason) == (ReleaseStatus.ACTIVE, False, "a demo")
    assert (await history(database, release))[-1] == "candidate -> active: forced: a demo"


async def test_rolling_back_goes_back_further_each_time(database: Database) -> None:
    """A second rollback leads to what was active before, never to what was just left; at the end is the base model."""
    first, second, third = candidate("1"), candidate("2"), candidate("3")
    await add(database, first, second, third)
    for release in (first, second, third):
        await activate(database, release)
    seen: list[str] = []
    while active := await database.read(lambda unit: unit.adapters.active(BASE)):
        earlier = await database.read(lambda unit, active=active: unit.adapters.before(active))
        to = None if earlier is None else earlier.id
        await database.write(lambda unit, active=active, to=to: unit.adapters.roll_back(active.id, to, "owner", "worse"))
        seen.append("base" if earlier is None else earlier.name)
    assert seen == ["2", "1", "base"]
    assert set((await statuses(database)).values()) == {ReleaseStatus.RETIRED}
    assert (await history(database, second))[-2:] == [
        f"retired -> active: rolled back from {third.id}",
        "active -> retired: rolled back: worse",
    ]
    await activate(database, third)
    again = await database.read(lambda unit: unit.adapters.active(BASE))
    assert again is not None
    assert await database.read(lambda unit: unit.adapters.before(again)) is None


async def test_no_rollback_leads_to_what_was_rolled_back(database: Database) -> None:
    """After 1, 2, 3, back to 2, then 4: a rollback of 4 leads to 2, which was active before it, and not to 3."""
    releases = [candidate(name) for name in "1234"]
    await add(database, *releases)
    _first, second, third, fourth = releases
    for release in releases[:3]:
        await activate(database, release)
    await database.write(lambda unit: unit.adapters.roll_back(third.id, second.id, "owner"))
    await activate(database, fourth)
    active = await database.read(lambda unit: unit.adapters.active(BASE))
    assert active is not None
    earlier = await database.read(lambda unit: unit.adapters.before(active))
    assert earlier is not None
    assert earlier.id == second.id


async def test_a_release_serves_other_forms_of_its_base(database: Database) -> None:
    """A release is found for each form of the base that it accepts; one that was trained on just that form comes first."""
    general = replace(candidate("general"), base_forms=("e" * 64, FORM))
    await add(database, general)
    await activate(database, general)
    for sha256, expected in ((BASE, general), (FORM, general), ("e" * 64, general), ("e" * 63, None), ("%", None), (None, general)):
        found = await database.read(lambda unit, sha256=sha256: unit.adapters.active(sha256))
        assert (found and found.id) == (expected and expected.id)
    exact = candidate("exact", base=FORM)
    await add(database, exact)
    await activate(database, exact)
    found = await database.read(lambda unit: unit.adapters.active(FORM))
    assert found is not None
    assert found.id == exact.id


async def test_a_verdict_makes_a_candidate_or_rejects_it(database: Database) -> None:
    """A failed verdict rejects a candidate, a later one that passed brings it back; the JSON is kept."""
    release = candidate(passed=False)
    await add(database, release)
    failed = await database.write(lambda unit: unit.adapters.set_verdict(release.id, '{"passed": false}', passed=False))
    assert (failed.status, failed.passed, failed.verdict) == (ReleaseStatus.REJECTED, False, '{"passed": false}')
    passed = await database.write(lambda unit: unit.adapters.set_verdict(release.id, "{}", passed=True, actor="ann"))
    assert (passed.status, passed.passed) == (ReleaseStatus.CANDIDATE, True)
    assert (await history(database, release))[1:] == [
        "candidate -> rejected: verdict: not passed",
        "rejected -> candidate: verdict: passed",
    ]
    with pytest.raises(NotFound):
        await database.write(lambda unit: unit.adapters.set_verdict("gone", "{}", passed=True))


async def test_releases_are_found_by_id_and_by_name(database: Database) -> None:
    """An id names one release, a name all that have it, the newest first; an id is never taken for a name."""
    first, second = (replace(candidate(), id=digit * 32) for digit in "12")
    named_like_an_id = candidate(first.id)
    await add(database, first, second, named_like_an_id)
    cases: list[tuple[str, list[str]]] = [(second.id, [second.id]), ("shop", [second.id, first.id]), (first.id, [first.id]), ("none", [])]
    for named, expected in cases:
        assert [found.id for found in await database.read(lambda unit, named=named: unit.adapters.find(named))] == expected
