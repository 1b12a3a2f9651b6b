"""Adapters with verdicts, and an installation that serves a tiny model: what the tests of promotion start from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.adapter_folders import AdapterFolders
from bot.adapter_operations import AdapterOperations
from bot.adapter_watch import AdapterWatch
from dialogue.engine.adapters import inspect_adapter
from dialogue.engine.model_files import ModelFiles
from storage.database import Database
from tests.dialogue.engine.adapter_folders import random_tensors, write_adapter
from tests.dialogue.engine.llamacpp_scene import tiny_files
from tests.fakes.tiny_gguf import tiny_model


def verdict_of(folder: Path, *reasons: str, passed: bool = True) -> str:
    """Return a verdict.json about the adapter in `folder`."""
    provenance = {"adapter_sha256": inspect_adapter(folder).sha256, "engine": "llamacpp"}
    return json.dumps({"passed": passed, "reasons": reasons, "provenance": provenance, "scores": [], "format": 1})


@dataclass(frozen=True)
class Installation:
    """A served tiny model, its data folder and the operations on its releases."""

    database: Database
    folder: Path
    files: ModelFiles
    watch: AdapterWatch | None = None

    @property
    def folders(self) -> AdapterFolders:
        return AdapterFolders(lambda: self.files, True, self.folder / "cache", self.folder / "data" / "adapters")

    @property
    def operations(self) -> AdapterOperations:
        return AdapterOperations(self.database, self.folders, self.watch)

    def adapter(self, name: str, seed: int = 1, **options: Any) -> Path:
        """Write a random adapter that fits the model."""
        facts = tiny_model().facts(self.files.sha256)
        options.setdefault("tensors", random_tensors(facts, ("q_proj", "v_proj"), 4, seed))
        return write_adapter(self.folder / "made" / name, facts, **options)

    async def candidate(self, name: str = "shop", seed: int = 1, *, passed: bool | None = True, reasons: tuple[str, ...] = ()) -> Any:
        """Import an adapter with a verdict (None = without one) and return its release."""
        folder = self.adapter(name, seed)
        verdict = None if passed is None else verdict_of(folder, *reasons, passed=passed)
        return (await self.operations.take_in({"path": str(folder), "name": name, "verdict": verdict}))["release"]


def install(database: Database, folder: Path, watch: AdapterWatch | None = None) -> Installation:
    """Return an installation in `folder`."""
    return Installation(database, folder, tiny_files(folder), watch)
