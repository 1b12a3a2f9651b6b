"""The step to schema 0003: releases of old databases stay what they were, and the new constraint holds against plain SQL."""

import pytest
from sqlalchemy.exc import IntegrityError

from storage import schema
from storage.config import StorageConfig
from tests.storage.test_schema import run_sql

COLUMNS = "id, name, base_model_sha256, path, sha256, status, created_at"


def insert(config: StorageConfig, name: str, status: str, base: str = "b") -> None:
    """Write a release as the program before this schema did."""
    run_sql(config, f"INSERT INTO adapter_releases ({COLUMNS}) VALUES ('{name}', '{name}', '{base}', '/a', '0', '{status}', 1)")


def test_releases_of_old_databases_stay_valid(storage_config: StorageConfig) -> None:
    """What was active stays active with a reason of its own and can be rolled back to what was retired; the way down keeps the rows."""
    schema.downgrade(storage_config, "0002")
    for status in ("candidate", "retired", "active", "rejected"):
        insert(storage_config, status, status)
    schema.upgrade(storage_config)
    rows = run_sql(storage_config, "SELECT id, status, passed, forced_reason, activation, skills FROM adapter_releases ORDER BY id")
    forced = "before verdicts were kept"
    assert [tuple(row) for row in rows] == [
        ("active", "active", False, forced, 2, "chat,support"),
        ("candidate", "candidate", False, "", 0, "chat,support"),
        ("rejected", "rejected", False, "", 0, "chat,support"),
        ("retired", "retired", False, forced, 1, "chat,support"),
    ]
    schema.downgrade(storage_config, "0002")
    assert sorted(row[0] for row in run_sql(storage_config, "SELECT status FROM adapter_releases")) == [row[0] for row in rows]
    insert(storage_config, "old program", "active", base="c")


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ("status = 'active'", False),
        ("status = 'active', forced_reason = ''", False),
        ("status = 'active', passed = (1 = 1)", True),
        ("status = 'active', forced_reason = 'a demo'", True),
        ("status = 'retired'", True),
        ("status = 'anything'", False),
    ],
)
def test_plain_sql_cannot_promote(storage_config: StorageConfig, change: str, allowed: bool) -> None:
    """The database of a migrated installation lets nobody make a release active without a verdict or a reason."""
    insert(storage_config, "r", "candidate")
    statement = f"UPDATE adapter_releases SET {change}"
    if allowed:
        run_sql(storage_config, statement)
    else:
        with pytest.raises(IntegrityError):
            run_sql(storage_config, statement)
