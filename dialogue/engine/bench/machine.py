"""What a result was measured on: processor and memory, how fast memory is copied, and what a process took of it."""

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]

PROC = Path("/proc")
COPY_BYTES = 128 << 20  # of each thread; far more than any cache holds
COPY_TIMES = 4


def hardware() -> dict[str, str | int]:
    """Return processor, cores, memory in GiB and system."""
    info = PROC / "cpuinfo"
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def load_average() -> float:
    """Return how many processes wanted to run in the last minute: a quiet machine has about 0."""
    return round(os.getloadavg()[0], 2)


def has_cuda() -> bool:
    """Whether there is a CUDA device; asked of the driver, because torch may be missing."""
    return Path("/dev/nvidiactl").exists()


def copy_bandwidth(threads: int, size: int = COPY_BYTES, times: int = COPY_TIMES) -> float:
    """Return the bytes a second that `threads` copies at once read and write together: the best of some tries."""
    pairs = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * size * threads / min(_seconds(pool, pairs) for _ in range(times))


def _copy(pair: Pair) -> None:
    np.copyto(pair[1], pair[0])


def _seconds(pool: ThreadPoolExecutor, pairs: list[Pair]) -> float:
    began = time.perf_counter()
    list(pool.map(_copy, pairs))
    return time.perf_counter() - began


def peak_memory_mib(process: int, proc: Path = PROC) -> float:
    """Return the most that a process and its children held, each for itself, in MiB."""
    if proc.exists():  # `getrusage` would begin with what the parent held when it started us
        return sum(_high_water_kib(each, proc) for each in family(process, proc)) / 2**10
    most = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def family(process: int, proc: Path = PROC) -> list[int]:
    """Return a process and all that descend from it."""
    parents = dict(_parents(proc))
    members = [process]
    for member in members:  # grows while it is walked
        members += [each for each, parent in parents.items() if parent == member]
    return members


def _parents(proc: Path) -> Iterator[tuple[int, int]]:
    for folder in proc.iterdir():
        if folder.name.isdigit() and (parent := _status(folder, "PPid:")):
            yield int(folder.name), int(parent)


def _high_water_kib(process: int, proc: Path) -> int:
    return int(_status(proc / str(process), "VmHWM:").split(" ", 1)[0] or 0)


def _status(folder: Path, key: str) -> str:
    try:
        lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # it ended meanwhile
        return ""
    return next((line.removeprefix(key).strip() for line in lines if line.startswith(key)), "")
