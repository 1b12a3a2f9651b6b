"""How many CPU cores this process may keep busy."""

import os
from math import ceil
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container


def usable_cores(topology: Path = TOPOLOGY, quota: Path = QUOTA) -> int:
    """Return the number of physical cores within affinity and container quota; at least 1.

    Two threads on the siblings of one core are slower than one, and threads beyond the quota stand still in turns.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_read(topology / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(_read(quota)) or len(cores)))


def _quota(text: str) -> int:
    """Return the cores of a `cpu.max` line such as "150000 100000"; 0 = no limit."""
    limit, _, period = text.partition(" ")
    return ceil(int(limit) / int(period)) if limit.isdigit() and period.isdigit() and int(period) else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
