"""What `kefu doctor` says about the adapter that answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.cli.data import operate
from bot.cli.findings import Finding, ok, warning
from bot.settings import Settings
from bot.shipped_adapter import shipped_adapter

CHECK = "adapter"


def check_adapter(settings: Settings) -> Sequence[Finding]:
    """Tell which adapter answers, and whether it can be loaded. Changes nothing."""
    if not settings.model.use_adapters:
        return [ok(CHECK, "[model] use_adapters is off: the base model answers")]
    if settings.database_file is not None and not settings.database_file.exists():
        return [_without_release(settings)]
    found: dict[str, Any] = operate(settings, "adapters.list")
    return [judge(found, _without_release(settings))]


def judge(found: dict[str, Any], without: Finding) -> Finding:
    """Return what is to be said about an answer of `adapters.list`; `without` where no release is active."""
    serving, active = found["serving"], [release for release in found["releases"] if release["status"] == "active"]
    if serving is not None and serving["refused"]:
        who = serving["name"] or "the base model"
        words = f"the engine refuses {serving['refused']}: {serving['reason']} {who} answers instead"
        return warning(CHECK, words, "`kefu adapters rollback`, or mend the folder and `kefu adapters activate` it.")
    lost = next((release for release in active if not Path(release["path"]).is_dir()), None)
    if lost is not None:
        remedy = "Bring it back, or run `kefu adapters rollback`."
        return warning(CHECK, f"the folder of the active release {lost['name']} is gone: {lost['path']}", remedy)
    if not active:
        return without
    return ok(CHECK, "; ".join(f"{release['name']} ({release['id']}) is active for {', '.join(release['skills'])}" for release in active))


def _without_release(settings: Settings) -> Finding:
    shipped = shipped_adapter(settings)
    if shipped is None:
        return ok(CHECK, "no release is active: the base model answers")
    if not Path(shipped.path).is_dir():
        return warning(CHECK, f"there is no folder {shipped.path}", "Mend [model] adapter.")
    return ok(CHECK, f"no release is active: {shipped.name} answers, in {shipped.path}")
