"""Loads adapter folders in a process of its own and tells what happened: `python -m … LOADER MANIFEST`, one JSON object on stdout.

The audit hook sees every import, every unpickling and every started process from the moment the judging begins.
"""

import importlib
import json
import pickle
import sys
from pathlib import Path

from dialogue.engine.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from dialogue.engine.adapters import load_adapter
from dialogue.errors import AdapterRejected
from tests.dialogue.engine.adapter_folders import TINY

WATCHED = {"import", "pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect"}


def strict(folder: Path) -> None:
    """The loader of the product."""
    load_adapter(folder, TINY)


def lax(folder: Path) -> None:
    """The planted fault: what a trusting loader does, refusing only what it stumbles over."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
        if config["auto_mapping"]:
            importlib.import_module(config["auto_mapping"]["parent_library"])
        weights = folder / WEIGHTS_FILE
        if not weights.exists():
            pickle.loads((folder / "adapter_model.bin").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterRejected(str(error)) from None


def judge(loader: str, good: Path, folders: list[Path]) -> dict[str, object]:
    """Load every folder; return the refusals by folder, what was accepted and what the hook saw."""
    load = {"strict": strict, "lax": lax}[loader]
    load(good)  # whatever a first use loads is loaded now
    sys.modules.pop("colorsys", None)
    known = set(sys.modules)
    seen: list[str] = []
    sys.addaudithook(lambda event, arguments: seen.append(f"{event} {arguments[0]!r}") if event in WATCHED else None)
    refused: dict[str, str] = {}
    accepted: list[str] = []
    for folder in folders:
        try:
            load(folder)
            accepted.append(folder.name)
        except AdapterRejected as error:
            refused[folder.name] = str(error)
    # importlib raises no import event of its own, so that new modules are counted too
    return {"refused": refused, "accepted": accepted, "seen": list(seen), "modules": sorted(set(sys.modules) - known)}


if __name__ == "__main__":
    manifest = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    print(json.dumps(judge(sys.argv[1], Path(manifest["good"]), [Path(folder) for folder in manifest["folders"]])))
