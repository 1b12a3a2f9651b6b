"""Promises of counting cores."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from dialogue.engine.cpu_cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", Mock(return_value=set(range(8))))


def machine(folder: Path, siblings: list[str], quota: str) -> int:
    for cpu, text in enumerate(siblings):
        (folder / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{text}\n")
    (folder / "cpu.max").write_text(f"{quota}\n")
    return usable_cores(folder, folder / "cpu.max")


@pytest.mark.parametrize(
    ("siblings", "quota", "expected"),
    [
        (["0", "1", "2", "3", "4", "5", "6", "7"], "max 100000", 8),
        (["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"], "max 100000", 4),
        (["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"], "250000 100000", 3),
        (["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"], "10000 100000", 1),
        (["0", "1", "2", "3", "4", "5", "6", "7"], "nonsense", 8),
    ],
)
def test_cores(tmp_path: Path, siblings: list[str], quota: str, expected: int) -> None:
    """Siblings count once, and a container's quota is kept."""
    assert machine(tmp_path, siblings, quota) == expected


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    """Without a topology each CPU counts."""
    assert usable_cores(tmp_path, tmp_path / "cpu.max") == 8
