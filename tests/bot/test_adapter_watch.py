"""What answers: the active release, else the adapter that ships; what the engine refuses does not, and says why."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bot.adapter_watch import LOADED, AdapterWatch, Serving
from bot.metrics import Metrics
from dialogue.config import EngineConfig
from dialogue.engine.base import AdapterRef, EngineHealth
from dialogue.engine.factory import build_engine
from dialogue.engine.scripted import ScriptedEngine
from dialogue.errors import AdapterRejected, EngineUnavailable
from storage.database import Database
from storage.records import AdapterReleaseRecord, ReleaseStatus
from tests.dialogue.engine.llamacpp_scene import tiny_files

BASE = "b" * 64


class RecordingEngine(ScriptedEngine):
    """Remembers what it was given; is away as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[str]] = []
        self.away = 0
        self.is_down = False

    def health(self) -> EngineHealth:
        return replace(super().health(), ready=not self.is_down)

    async def set_adapters(self, adapters: Sequence[AdapterRef]) -> None:
        self.given.append([adapter.name for adapter in adapters])
        if self.away:
            self.away -= 1
            raise EngineUnavailable("restarting")
        await super().set_adapters(adapters)


def is_folder(path: Path) -> None:
    """Refuse what the scripted engine refuses."""
    if not path.is_dir():
        raise AdapterRejected("There is no folder.")


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def watch(database: Database, engine: RecordingEngine) -> AdapterWatch:
    return AdapterWatch(database, engine, BASE, check=is_folder)


async def promote(database: Database, folder: Path, name: str, *, make: bool = True, skills: tuple[str, ...] = ("chat", "support")) -> None:
    """Store an active release."""
    if make:
        (folder / name).mkdir()
    release = AdapterReleaseRecord(name, name.upper(), BASE, str(folder / name), "0", ReleaseStatus.ACTIVE, "", 0, passed=True)
    await database.write(lambda unit: unit.adapters.add(replace(release, skills=skills)))


async def to_base(database: Database, name: str) -> None:
    """Let nothing be active."""
    await database.write(lambda unit: unit.adapters.roll_back(name, None, "test"))


async def test_the_active_release_answers_its_skills(database: Database, watch: AdapterWatch, tmp_path: Path) -> None:
    """An adapter for support answers chat and support; translations are left to the base model."""
    assert watch.current("c", "chat") is None
    await promote(database, tmp_path, "r1")
    await watch.look()
    chosen = {skill: watch.current("c", skill) for skill in ("chat", "support", "translate", "summarize", "write")}
    assert chosen == {"chat": "r1", "support": "r1", "translate": None, "summarize": None, "write": None}
    assert watch.serving == Serving("r1", "R1")
    await promote(database, tmp_path, "r2", skills=("translate",))
    await watch.look()
    assert (watch.current("c", "chat"), watch.current("c", "translate")) == (None, "r2")


async def test_a_rollback_needs_nothing_of_the_engine(
    database: Database, engine: RecordingEngine, watch: AdapterWatch, tmp_path: Path
) -> None:
    """Back at the base model, the adapter stays loaded for the turns that have chosen it; nothing is loaded again for nothing."""
    await promote(database, tmp_path, "r1")
    await watch.look()
    await watch.look()
    await to_base(database, "r1")
    await watch.look()
    assert (watch.current("c", "chat"), watch.serving, engine.given) == (None, Serving(), [["r1"]])


async def test_the_ones_before_stay_loaded(database: Database, engine: RecordingEngine, watch: AdapterWatch, tmp_path: Path) -> None:
    """Turns on their way find the adapter that they chose; the newest comes first, and their number is bounded."""
    for number in range(LOADED + 1):
        await promote(database, tmp_path, f"r{number}")
        await watch.look()
    assert engine.given == [["r0"], ["r1", "r0"], ["r2", "r1", "r0"], ["r3", "r2", "r1"]]


async def test_a_refused_release_leaves_the_old_one(
    database: Database, engine: RecordingEngine, watch: AdapterWatch, tmp_path: Path
) -> None:
    """What the engine refuses is named with the reason and not tried at every look, only when somebody asks or mends it."""
    await promote(database, tmp_path, "r1")
    await watch.look()
    await promote(database, tmp_path, "r2", make=False)
    for _ in range(3):
        await watch.look()
    assert watch.current("c", "chat") == "r1"
    assert (watch.serving.adapter, watch.serving.refused, "there is no folder" in watch.serving.reason) == ("r1", "r2", True)
    assert engine.given == [["r1"], ["r2", "r1"], ["r2"]]
    (tmp_path / "r2").mkdir()
    await watch.look(again=True)
    assert watch.serving == Serving("r2", "R2")


async def test_a_way_back_clears_the_refusal(database: Database, watch: AdapterWatch, tmp_path: Path) -> None:
    """Once what answers is what should answer, nothing is refused any more."""
    await promote(database, tmp_path, "r1", make=False)
    await watch.look()
    assert watch.serving.refused == "r1"
    await to_base(database, "r1")
    await watch.look()
    assert watch.serving == Serving()


async def test_an_engine_that_is_away_is_asked_again(
    database: Database, engine: RecordingEngine, watch: AdapterWatch, tmp_path: Path
) -> None:
    """A restart of the engine is no fault of the adapter: the next look loads it."""
    await promote(database, tmp_path, "r1")
    engine.away = 1
    await watch.look()
    assert watch.serving == Serving()
    await watch.look()
    assert watch.serving == Serving("r1", "R1")


async def test_an_old_folder_that_is_gone_keeps_no_new_one_out(database: Database, watch: AdapterWatch, tmp_path: Path) -> None:
    """A release whose folder was deleted while it answered does not block its successor."""
    await promote(database, tmp_path, "r1")
    await watch.look()
    (tmp_path / "r1").rmdir()
    await promote(database, tmp_path, "r2")
    await watch.look()
    assert watch.serving == Serving("r2", "R2")


async def test_a_damaged_adapter_keeps_no_engine_down(
    database: Database, engine: RecordingEngine, watch: AdapterWatch, tmp_path: Path
) -> None:
    """An engine that crashed comes back without the adapter whose folder was damaged meanwhile; sound ones stay."""
    for name in ("r1", "r2"):
        await promote(database, tmp_path, name)
        await watch.look()
    engine.is_down = True
    await watch.look()
    assert (watch.serving, len(engine.given)) == (Serving("r2", "R2"), 2)
    (tmp_path / "r2").rmdir()
    await watch.look()
    await watch.look()
    assert (watch.serving, engine.given[2:]) == (Serving(refused="r2", reason="There is no folder."), [["r1"]])
    assert watch.current("c", "chat") is None


async def test_a_damaged_adapter_keeps_no_program_from_starting(database: Database, tmp_path: Path) -> None:
    """llama.cpp in its child starts without the adapter that it refuses; another reason not to start is none of the watch's business."""
    files = tiny_files(tmp_path)
    engine = build_engine(EngineConfig(cache_dir=tmp_path, slots=1, context_tokens=512, threads=1, cache_ram_mib=0), files)
    watch = AdapterWatch(database, engine, BASE, check=is_folder)
    await promote(database, tmp_path, "r1")
    try:
        await watch.look()
        with pytest.raises(EngineUnavailable) as refused:
            await engine.start()
        assert not await watch.let_go(EngineUnavailable("no memory"))
        assert watch.serving.adapter == "r1"
        assert await watch.let_go(refused.value)
        await engine.start()
        assert (watch.serving.adapter, watch.serving.refused, "adapter_config.json" in watch.serving.reason) == ("", "r1", True)
    finally:
        await engine.close()


async def test_what_ships_answers_until_a_release_does(database: Database, engine: RecordingEngine, tmp_path: Path) -> None:
    """Without an active release the adapter of the installation answers; after a promotion the release; switched off, neither."""
    (tmp_path / "support-en").mkdir()
    shipped = AdapterRef("support-en", str(tmp_path / "support-en"))
    watch = AdapterWatch(database, engine, BASE, check=is_folder, shipped=shipped)
    await watch.look()
    assert (watch.current("c", "chat"), watch.current("c", "write"), watch.serving.name) == ("support-en", None, "support-en")
    await promote(database, tmp_path, "r1")
    await watch.look()
    assert watch.current("c", "chat") == "r1"
    await to_base(database, "r1")
    await watch.look()
    assert watch.current("c", "chat") == "support-en"
    off = AdapterWatch(database, engine, BASE, check=is_folder, shipped=shipped, enabled=False)
    await off.look()
    assert off.current("c", "chat") is None


async def test_releases_of_other_bases_do_not_answer(database: Database, engine: RecordingEngine, tmp_path: Path) -> None:
    """A release belongs to its base model; where the base is not known, as on a server elsewhere, every release may answer."""
    await promote(database, tmp_path, "r1")
    other, unknown = (AdapterWatch(database, engine, base, check=is_folder) for base in ("c" * 64, ""))
    await other.look()
    await unknown.look()
    assert (other.serving.adapter, unknown.serving.adapter) == ("", "r1")


def test_what_answers_is_measured() -> None:
    """/metrics names the adapter that answers, one at a time, and whether the engine refuses the one that should."""
    metrics = Metrics()
    metrics.set_adapter(Serving("r1", "shop"))
    metrics.set_adapter(Serving("r2", "shop", refused="r3", reason="damaged"))
    lines = metrics.scrape().decode().splitlines()
    assert [line for line in lines if line.startswith("kefu_adapter")] == [
        'kefu_adapter_info{name="shop",release="r2"} 1.0',
        "kefu_adapter_refused 1.0",
    ]
