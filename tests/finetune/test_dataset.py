"""Dataset folders: written whole or not at all, named by their content, refused when somebody changed them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import dataset
from finetune.dataset import Dropped, encode_splits, read_dropped, read_split, write_dataset
from finetune.errors import DatasetInvalid, FinetuneError
from finetune.manifest import DatasetManifest, read_manifest
from finetune.samples import Sample
from tests.finetune.making import sample

TRAIN = [sample("Where is it?", "On the shelf.", name="s:1"), sample("And\u2028now?", "Still\x85there.\nLook.", name="s:2")]


def write(folder: Path, train: Sequence[Sample] = TRAIN, *, at: int = 0, dropped: Sequence[Dropped] = ()) -> DatasetManifest:
    """Write a small dataset."""
    content = encode_splits({"train": train, "test": [sample("Who?", "Nobody.", name="s:9")]})
    made = DatasetManifest(
        version=content.version, name="t", created_at=datetime.fromtimestamp(at, UTC).isoformat(), kefu="1", splits=dict(content.splits)
    )
    write_dataset(folder, content, made, dropped)
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Samples, manifest and dropped rows come back as they were, line separators inside texts included."""
    gone = [Dropped("s", "faq.csv", 817, "broken JSON")]
    made = write(tmp_path / "d", dropped=gone)
    assert read_split(tmp_path / "d", "train") == TRAIN
    assert read_split(tmp_path / "d", "valid") == []
    assert read_manifest(tmp_path / "d") == made
    assert list(read_dropped(tmp_path / "d")) == gone


def test_the_version_is_the_content(tmp_path: Path) -> None:
    """Place and time do not change the version; one letter does."""
    one, other = write(tmp_path / "a", at=0), write(tmp_path / "b", at=10_000)
    assert one.version == other.version
    assert write(tmp_path / "c", [TRAIN[0], sample("And now?", "Still there!", name="s:2")]).version != one.version


@given(st.permutations(["train", "valid", "test"]))
def test_a_sample_in_another_split_is_another_version(order: list[str]) -> None:
    """Which split holds what is part of the content."""
    samples = {split: [sample("Q?", "A.", name=f"s:{number}")] for number, split in enumerate(order)}
    same = encode_splits(samples).version == encode_splits({name: samples[name] for name in ("train", "valid", "test")}).version
    moved = encode_splits({"train": samples["test"], "valid": samples["valid"], "test": samples["train"]})
    assert same
    assert moved.version != encode_splits(samples).version


@pytest.mark.parametrize("damage", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("step", ["_write", "_put"])
def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: type[BaseException], step: str) -> None:
    """Ctrl-C or a full disk at any step leaves the old dataset, or nothing, and no hidden folder."""
    first = write(tmp_path / "old")

    def fail(*_: object) -> None:
        raise damage

    monkeypatch.setattr(dataset, step, fail)
    for name in ("old", "new"):
        with pytest.raises(damage):
            write(tmp_path / name, TRAIN[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert read_manifest(tmp_path / "old").version == first.version


def test_a_failing_move_brings_the_old_dataset_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old dataset, which had stepped aside, stands in its place again when the new one cannot take it."""
    first = write(tmp_path / "d")
    rename = Path.rename

    def once(path: Path, target: Path) -> Path:
        if target.name == "d" and not path.name.endswith(".old"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", once)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "d", TRAIN[:1])
    monkeypatch.undo()
    assert read_manifest(tmp_path / "d").version == first.version
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_dataset_takes_the_place_of_a_dataset_only(tmp_path: Path) -> None:
    """A folder with something else in it is left alone; an older dataset is replaced."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(FinetuneError, match="no dataset"):
        write(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"meow"
    write(tmp_path / "d")
    second = write(tmp_path / "d", TRAIN[:1])
    assert read_manifest(tmp_path / "d") == second


@pytest.mark.parametrize("change", ["edit", "remove", "manifest", "no folder", "split"])
def test_a_damaged_dataset_is_refused(tmp_path: Path, change: str) -> None:
    """A file that was edited, removed or never written is reported with its name."""
    folder = tmp_path / "d"
    write(folder)
    split = "train"
    match change:
        case "edit":
            path = folder / "train.jsonl"
            path.write_text(path.read_text().replace("shelf", "floor"))
        case "remove":
            (folder / "train.jsonl").unlink()
        case "manifest":
            (folder / "manifest.json").write_text("{}")
        case "split":
            split = "tarin"
        case _:
            folder = tmp_path / "nowhere"
    with pytest.raises(DatasetInvalid, match=r"train|manifest|tarin|nowhere"):
        read_split(folder, split)


def test_others_cannot_read_a_dataset(tmp_path: Path) -> None:
    """What customers wrote is for the owner's eyes: the folder is private."""
    write(tmp_path / "d")
    assert (tmp_path / "d").stat().st_mode & 0o077 == 0
