"""A disk that forgets what was not synced: an SQLite file system in memory for the power-cut proof.

SQLite (through apsw, which bundles its own) writes to this disk. Before each operation that changes it, `Disk` may keep a snapshot of
what a power cut at that moment would leave: the bytes of the last xSync of each file, and of the writes since then a random part, in
whole sectors, because a disk is free to write early and in any order. The model is the one of sqlite.org/atomiccommit.html, section 2.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import apsw

SECTOR = 4096


@dataclass
class _File:
    """One file: what a reader sees, what is surely on the platter, and the sectors written since the last sync."""

    seen: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    dirty: set[int] = field(default_factory=set)

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.seen):
            self.seen.extend(bytes(end - len(self.seen)))
        self.seen[offset:end] = data
        self.dirty.update(range(offset // SECTOR, (end - 1) // SECTOR + 1))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.dirty.add(size // SECTOR)

    def sync(self) -> None:
        self.synced = bytes(self.seen)
        self.dirty.clear()

    def after_power_cut(self, chance: random.Random) -> bytes:
        """Return the synced bytes with a random half of the later sectors, each whole."""
        left = bytearray(self.synced)
        for sector in sorted(self.dirty):
            start = sector * SECTOR
            piece = self.seen[start : start + SECTOR]
            if piece and chance.random() < 0.5:
                left.extend(bytes(max(0, start + len(piece) - len(left))))
                left[start : start + len(piece)] = piece
        return bytes(left)


@dataclass
class Disk:
    """Files in memory. `before_change` is called before each write, truncate, sync and delete, with the operation's number."""

    files: dict[str, _File] = field(default_factory=dict)
    operations: int = 0
    syncs: int = 0
    before_change: Callable[[int], None] = lambda _operation: None

    def changing(self) -> None:
        self.before_change(self.operations)
        self.operations += 1

    def after_power_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return what each file would hold if the power failed now."""
        return {name: file.after_power_cut(chance) for name, file in self.files.items()}


class _DiskFile:
    """The file methods that SQLite calls. One process uses the disk, so locks have nothing to do."""

    def __init__(self, disk: Disk, file: _File) -> None:
        self._disk, self._file = disk, file

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._file.seen[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.changing()
        self._file.write(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.changing()
        self._file.truncate(size)

    def xSync(self, _flags: int) -> None:
        self._disk.changing()
        self._disk.syncs += 1
        self._file.sync()

    def xFileSize(self) -> int:
        return len(self._file.seen)

    def xLock(self, _level: int) -> None: ...

    def xUnlock(self, _level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, _operation: int, _pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0  # no promise: no atomic writes, no sequential writes, no safe appends

    def xClose(self) -> None: ...


class _DiskVFS(apsw.VFS):
    """The file system methods that SQLite calls; everything that is not about files comes from the system's."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _DiskFile:  # pyrefly: ignore[bad-override]
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or f"temporary-{id(flags)}"
        return _DiskFile(self._disk, self._disk.files.setdefault(path, _File()))

    def xFullPathname(self, name: str) -> str:
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self._disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.changing()
        self._disk.files.pop(filename, None)


@contextmanager
def mounted(disk: Disk) -> Iterator[str]:
    """Make the disk known to SQLite; yield the name of its file system."""
    name = f"power-cut-{id(disk)}"
    vfs = _DiskVFS(name, disk)
    try:
        yield name
    finally:
        vfs.unregister()


def disk_with(files: dict[str, bytes]) -> Disk:
    """Return a disk on which these bytes are safely stored."""
    return Disk(files={name: _File(seen=bytearray(data), synced=data) for name, data in files.items()})
