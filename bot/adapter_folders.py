"""The folders of releases: checked against the model that is served, and kept where nobody moves them."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bot.errors import CliError
from bot.model_files import NO_FILES
from bot.settings import Settings
from dialogue.engine.adapter_files import copy_adapter
from dialogue.engine.model_files import ModelFiles
from dialogue.errors import AdapterRejected
from storage.records import AdapterReleaseRecord


class Pins(Protocol):
    """What an adapter says it was trained with; `dialogue.engine.adapters.Pins`."""

    @property
    def bases(self) -> tuple[str, ...]: ...


class CheckedFolder(Protocol):
    """A folder that is harmless, and fits the served model where that is known."""

    @property
    def sha256(self) -> str: ...

    @property
    def pins(self) -> Pins: ...


@dataclass(frozen=True, slots=True)
class AdapterFolders:
    """Looks at adapter folders. Every method that reads one blocks."""

    files: Callable[[], ModelFiles | None]  # of the served model; None = not on this machine
    needs_files: bool  # whether the engine loads the model on this machine: then an adapter must fit its very file
    cache_dir: Path
    kept_in: Path  # one folder for each imported release, named by its id

    def base_sha256(self) -> str | None:
        """Return the hash of the served model; None = not known."""
        files = self.files()
        return files.sha256 or None if files is not None else None

    def check(self, folder: Path) -> CheckedFolder:
        """Return what is known of the adapter in `folder`. Raises AdapterRejected, and CliError where the model is not here."""
        # numpy and gguf take a second to load, and most commands look at no adapter
        from dialogue.engine.adapters import inspect_adapter, load_adapter  # noqa: PLC0415
        from dialogue.engine.lora_gguf import ServedFiles, served_facts  # noqa: PLC0415 - the same

        files = self.files()
        if files is None and self.needs_files:
            raise CliError("The model is not here yet, and an adapter is checked against it.", hint="Fetch it with `kefu models pull`.")
        if files is None or files.path.is_dir():  # what another program loads, that program fits
            return inspect_adapter(folder)
        served = ServedFiles(files.path, files.sha256, files.tokenizer_sha256, files.template_sha256)
        return load_adapter(folder, served_facts(served, self.cache_dir))

    def check_release(self, release: AdapterReleaseRecord) -> None:
        """Make sure that the release can be loaded, and is what was registered. Raises AdapterRejected and CliError."""
        if self.check(Path(release.path)).sha256 != release.sha256:
            raise AdapterRejected("The adapter was changed after it was registered.")

    def keep(self, source: Path, release_id: str) -> tuple[Path, CheckedFolder]:
        """Copy an adapter to where releases are kept; what counts is the copy, which is checked again.

        Raises AdapterRejected, CliError and OSError; nothing is left behind then.
        """
        self.check(source)
        target = self.kept_in / release_id
        try:
            copy_adapter(source, target)
            return target, self.check(target)
        except BaseException:
            self.forget(release_id)
            raise

    def forget(self, release_id: str) -> None:
        """Delete the copy of a release that was not registered after all."""
        with contextlib.suppress(OSError):
            shutil.rmtree(self.kept_in / release_id)


def adapter_folders(settings: Settings, files: Callable[[], ModelFiles | None]) -> AdapterFolders:
    """Return the folders of an installation whose model is `files`."""
    needs_files = settings.engine.kind not in NO_FILES | {"remote"}
    return AdapterFolders(files if needs_files else lambda: None, needs_files, settings.cache_dir, settings.data_dir / "adapters")
